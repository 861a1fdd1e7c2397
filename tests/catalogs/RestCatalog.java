import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Map;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.jdbc.JdbcCatalog;
import org.apache.iceberg.rest.RESTCatalogAdapter;
import org.apache.iceberg.rest.RESTCatalogServlet;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;

/** Iceberg's own REST catalog over a JdbcCatalog in SQLite, on a port of this machine: DATABASE WAREHOUSE READY-FILE PORT. */
public class RestCatalog {
  public static void main(String[] words) throws Exception {
    JdbcCatalog catalog = new JdbcCatalog();
    catalog.setConf(new Configuration());
    catalog.initialize("rest", Map.of(
        "uri", "jdbc:sqlite:" + words[0] + "?busy_timeout=30000",
        "warehouse", words[1],
        "jdbc.schema-version", "V1",
        "io-impl", "org.apache.iceberg.hadoop.HadoopFileIO"));
    Server server = new Server();
    ServerConnector connector = new ServerConnector(server);
    connector.setHost("127.0.0.1");
    connector.setPort(Integer.parseInt(words[3]));
    server.addConnector(connector);
    ServletContextHandler handler = new ServletContextHandler();
    handler.addServlet(new ServletHolder(new RESTCatalogServlet(new RESTCatalogAdapter(catalog))), "/*");
    server.setHandler(handler);
    server.start();
    // Whole or not at all: somebody waits for it.
    Path file = Path.of(words[2]);
    Path beside = Files.writeString(Path.of(words[2] + ".new"), String.valueOf(connector.getLocalPort()));
    Files.move(beside, file, StandardCopyOption.ATOMIC_MOVE);
    server.join();
  }
}
