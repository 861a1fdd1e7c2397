//! Where things live. Found in this order: arguments, `KAPPA_*` variables, the nearest `kappa.toml`, defaults that need
//! no server (all under `.kappa/`).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

pub mod kafka;

pub use kafka::KafkaOptions;

/// The settings, resolved: relative paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `log.url`: where topics are: `file://DIRECTORY` or `kafka://HOST:PORT,…`.
    pub log_url: String,
    /// `catalog.url`: where tables are registered.
    pub catalog_url: SecretUrl,
    /// `catalog.name`: the name that other tools must use for this catalog too.
    pub catalog_name: String,
    /// `catalog.namespace`: where tables named without one go.
    pub catalog_namespace: String,
    /// `warehouse`: where tables' files are.
    pub warehouse: String,
    /// `checkpoints`: where progress and state are kept.
    pub checkpoints: String,
    /// `sink.url`: the cluster that topics are written to, `kafka://HOST:PORT,…`; empty: that of `log.url`, if it is one.
    pub sink_url: String,
    /// `serving.view`: how views of names are called, such as `{name}__view`; empty: they have none unless one is asked for.
    pub serving_view: String,
    /// `kafka.*`: options of Kafka's client, by librdkafka's names.
    pub kafka: KafkaOptions,
}

/// A URL that may hold a password: it is shown without.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl std::ops::Deref for SecretUrl {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown_url(&self.0))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", shown_url(&self.0))
    }
}

/// Setting, environment variable, default.
const NAMES: [(&str, &str, &str); 8] = [
    ("log.url", "KAPPA_LOG_URL", "file://.kappa/log"),
    ("catalog.url", "KAPPA_CATALOG_URL", "sqlite://.kappa/catalog.db"),
    ("catalog.name", "KAPPA_CATALOG_NAME", "kappa"),
    ("catalog.namespace", "KAPPA_CATALOG_NAMESPACE", "default"),
    ("warehouse", "KAPPA_WAREHOUSE", "file://.kappa/warehouse"),
    ("checkpoints", "KAPPA_CHECKPOINTS", "file://.kappa/checkpoints"),
    ("sink.url", "KAPPA_SINK_URL", ""),
    ("serving.view", "KAPPA_SERVING_VIEW", ""),
];

const KAFKA_PREFIX: &str = "kafka.";

impl Settings {
    /// Resolves the settings. `overrides` come from arguments (`--set log.url=…`); `config_file` replaces the search
    /// for `kappa.toml`. Relative paths in `kappa.toml` are relative to it, others to the working directory.
    ///
    /// Errors: a setting that does not exist, a file that cannot be read or parsed.
    pub fn resolve(overrides: &BTreeMap<String, String>, config_file: Option<&Path>) -> Result<Self> {
        let here = std::env::current_dir().map_err(|e| Error::io("open the working directory", ".", e))?;
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let environment = environment.filter(|(name, value)| name.starts_with("KAPPA_") && !value.is_empty()).collect();
        Self::resolve_from(overrides, &environment, config_file, &here)
    }

    fn resolve_from(
        overrides: &BTreeMap<String, String>,
        environment: &BTreeMap<String, String>,
        config_file: Option<&Path>,
        here: &Path,
    ) -> Result<Self> {
        for name in overrides.keys() {
            known(name, "an argument")?;
        }
        let file = match config_file {
            Some(path) => Some(here.join(path)),
            None => here.ancestors().map(|dir| dir.join("kappa.toml")).find(|path| path.is_file()),
        };
        let from_file = file.as_deref().map(read_file).transpose()?.unwrap_or_default();
        let file_dir = file.as_deref().and_then(Path::parent).unwrap_or(here);
        let get = |index: usize| {
            let (name, variable, default) = NAMES[index];
            if let Some(value) = overrides.get(name) {
                absolute(value, here)
            } else if let Some(value) = environment.get(variable) {
                absolute(value, here)
            } else if let Some(value) = from_file.get(name) {
                absolute(value, file_dir)
            } else {
                absolute(default, if file.is_some() { file_dir } else { here })
            }
        };
        Ok(Self {
            log_url: get(0),
            catalog_url: SecretUrl(get(1)),
            catalog_name: get(2),
            catalog_namespace: get(3),
            warehouse: get(4),
            checkpoints: get(5),
            sink_url: get(6),
            serving_view: get(7),
            kafka: kafka_options(&from_file, environment, overrides),
        })
    }

    /// The same log, and everything else in a directory.
    pub fn in_directory(&self, directory: &Path) -> Self {
        let directory = directory.display();
        Self {
            catalog_url: SecretUrl(format!("sqlite://{directory}/catalog.db")),
            warehouse: format!("file://{directory}/warehouse"),
            checkpoints: format!("file://{directory}/checkpoints"),
            ..self.clone()
        }
    }

    /// How the views of names are called, if they are to have some.
    pub fn views(&self, are_wanted: bool) -> Option<&str> {
        match self.serving_view.as_str() {
            "" => are_wanted.then_some("{name}__view"),
            pattern => Some(pattern),
        }
    }

    /// What the URL of a log in Kafka begins with.
    pub const KAFKA_SCHEME: &'static str = "kafka://";

    /// The cluster that topics are written to.
    ///
    /// Errors: none is named, or what is named is none.
    pub fn sink_cluster(&self) -> Result<&str> {
        let url = if self.sink_url.is_empty() { &self.log_url } else { &self.sink_url };
        if url.starts_with(Self::KAFKA_SCHEME) {
            return Ok(url);
        }
        let message = if self.sink_url.is_empty() {
            "the job writes a topic, and no cluster is named for it".to_owned()
        } else {
            format!("sink.url is {url}, which is no Kafka cluster")
        };
        Err(Error::config("no_sink_cluster", message).hint("set sink.url to kafka://HOST:PORT"))
    }

    /// The directory behind a `file://` URL.
    ///
    /// Errors: another scheme, with the name of the setting.
    pub fn directory(setting: &'static str, url: &str) -> Result<PathBuf> {
        match url.strip_prefix("file://") {
            Some(path) => Ok(PathBuf::from(path)),
            None => {
                Err(Error::config("unsupported_url", format!("{setting} is {url}: this release keeps it in a local directory"))
                    .hint(format!("set {setting} to file://DIRECTORY")))
            }
        }
    }
}

/// The options `kafka.*`; later places win. In the environment `KAPPA_KAFKA_SASL_USERNAME` is `kafka.sasl.username`.
fn kafka_options(
    file: &BTreeMap<String, String>,
    environment: &BTreeMap<String, String>,
    arguments: &BTreeMap<String, String>,
) -> KafkaOptions {
    let dotted = |(name, value): (&String, &String)| Some((name.strip_prefix(KAFKA_PREFIX)?.to_owned(), value.clone()));
    let variable = |(name, value): (&String, &String)| {
        Some((name.strip_prefix("KAPPA_KAFKA_")?.to_lowercase().replace('_', "."), value.clone()))
    };
    let all = file.iter().filter_map(dotted).chain(environment.iter().filter_map(variable));
    KafkaOptions::new(all.chain(arguments.iter().filter_map(dotted)).collect())
}

fn known(name: &str, place: impl fmt::Display) -> Result<()> {
    if NAMES.iter().any(|(known, ..)| *known == name) || name.len() > KAFKA_PREFIX.len() && name.starts_with(KAFKA_PREFIX) {
        return Ok(());
    }
    let names = NAMES.map(|(name, ..)| name).join(", ");
    Err(Error::config("unknown_setting", format!("there is no setting {name:?} ({place})"))
        .hint(format!("settings are: {names}, and kafka.OPTION for each option of librdkafka")))
}

/// Settings of a file, tables joined by dots.
fn read_file(path: &Path) -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Error::config("config_file", format!("read {}: {e}", path.display())).hint("check the path given with --config")
    })?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
        Error::config("config_file", format!("{} is not TOML: {}", path.display(), e.message()))
    })?;
    let mut settings = BTreeMap::new();
    flatten("", &table, &mut settings, path)?;
    Ok(settings)
}

fn flatten(prefix: &str, table: &toml::Table, out: &mut BTreeMap<String, String>, path: &Path) -> Result<()> {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(&name, inner, out, path)?,
            toml::Value::String(text) => {
                known(&name, path.display())?;
                out.insert(name, text.clone());
            }
            toml::Value::Integer(number) if name.starts_with(KAFKA_PREFIX) => {
                out.insert(name, number.to_string());
            }
            toml::Value::Boolean(flag) if name.starts_with(KAFKA_PREFIX) => {
                out.insert(name, flag.to_string());
            }
            _ => {
                return Err(Error::config("config_file", format!("{name} in {} is not text", path.display()))
                    .hint(format!("write {name} = \"…\"")));
            }
        }
    }
    Ok(())
}

/// A URL as it may be shown: without the password of its user, and without the values of options that may be secrets.
pub fn shown_url(url: &str) -> String {
    let (base, options) = url.split_once('?').map_or((url, None), |(base, options)| (base, Some(options)));
    // A password may hold a `?` that should have been written %3F: nobody can tell where it ends then.
    if let (Some((_, place)), Some((scheme, _))) = (options.and_then(|it| it.rsplit_once('@')), base.split_once("://")) {
        return format!("{scheme}://{}@{place}", kafka::REDACTED);
    }
    let shown = match base.split_once("://").map(|(scheme, rest)| (scheme, rest.rsplit_once('@'))) {
        Some((scheme, Some((user, place)))) => {
            format!("{scheme}://{}@{place}", user.split(':').next().unwrap_or_default())
        }
        _ => base.to_owned(),
    };
    let option = |option: &str| match option.split_once('=') {
        Some((name, _)) if ["password", "secret", "token", "key", "credential"].iter().any(|part| name.contains(part)) => {
            format!("{name}={}", kafka::REDACTED)
        }
        _ => option.to_owned(),
    };
    match options {
        Some(options) => format!("{shown}?{}", options.split('&').map(option).collect::<Vec<_>>().join("&")),
        None => shown,
    }
}

/// Makes the path of a `file://` or `sqlite://` URL absolute; a bare path is a `file://` one.
fn absolute(value: &str, base: &Path) -> String {
    for scheme in ["file://", "sqlite://"] {
        if let Some(path) = value.strip_prefix(scheme) {
            return format!("{scheme}{}", normal(&base.join(path)).display());
        }
    }
    if value.contains("://") || !value.contains('/') {
        value.to_owned()
    } else {
        format!("file://{}", normal(&base.join(value)).display())
    }
}

/// Without `.` and `..`: what is stored in catalogs must name a file in one way only.
fn normal(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(overrides: &[(&str, &str)], environment: &[(&str, &str)], file: Option<&str>) -> Result<Settings> {
        let dir = tempfile::tempdir().unwrap();
        let nested = dir.path().join("a/b");
        std::fs::create_dir_all(&nested).unwrap();
        if let Some(text) = file {
            std::fs::write(dir.path().join("kappa.toml"), text).unwrap();
        }
        let overrides = overrides.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let settings = Settings::resolve_from(&overrides, &environment, None, &nested)?;
        let strip = |url: String| url.replace(dir.path().to_str().unwrap(), "DIR");
        Ok(Settings { log_url: strip(settings.log_url), warehouse: strip(settings.warehouse), ..settings })
    }

    #[test]
    fn arguments_beat_variables_beat_the_file_beat_defaults() {
        let file = Some("[log]\nurl = \"file://from-file\"");
        let variable = [("KAPPA_LOG_URL", "file:///variable")];
        assert_eq!(resolve(&[("log.url", "file:///argument")], &variable, file).unwrap().log_url, "file:///argument");
        assert_eq!(resolve(&[], &variable, file).unwrap().log_url, "file:///variable");
        assert_eq!(resolve(&[], &[], file).unwrap().log_url, "file://DIR/from-file");
        assert_eq!(resolve(&[], &[], None).unwrap().log_url, "file://DIR/a/b/.kappa/log");
    }

    #[test]
    fn defaults_lie_beside_the_file_that_was_found() {
        assert_eq!(resolve(&[], &[], Some("")).unwrap().warehouse, "file://DIR/.kappa/warehouse");
    }

    #[test]
    fn options_of_the_kafka_client_come_from_everywhere() {
        let file = Some("[kafka]\nlinger.ms = 5\n\"security.protocol\" = \"SASL_SSL\"\nclient.id = \"file\"\n");
        let variables = [("KAPPA_KAFKA_CLIENT_ID", "variable"), ("KAPPA_KAFKA_SASL_USERNAME", "anna")];
        let settings = resolve(&[("kafka.sasl.username", "argument")], &variables, file).unwrap();
        let shown: Vec<_> = settings.kafka.shown().collect();
        let expected =
            [("client.id", "variable"), ("linger.ms", "5"), ("sasl.username", "argument"), ("security.protocol", "SASL_SSL")];
        assert_eq!(shown, expected);
        assert_eq!(resolve(&[("kafka.", "x")], &[], None).unwrap_err().code(), "unknown_setting");
    }

    #[test]
    fn topics_are_written_to_the_cluster_of_the_log_unless_another_is_named() {
        let kafka = ("log.url", "kafka://a:1");
        assert_eq!(resolve(&[kafka], &[], None).unwrap().sink_cluster().unwrap(), "kafka://a:1");
        assert_eq!(resolve(&[kafka, ("sink.url", "kafka://b:1")], &[], None).unwrap().sink_cluster().unwrap(), "kafka://b:1");
        for settings in [resolve(&[], &[], None), resolve(&[("sink.url", "file:///x")], &[], None)] {
            assert_eq!(settings.unwrap().sink_cluster().unwrap_err().code(), "no_sink_cluster");
        }
    }

    #[test]
    fn the_secrets_in_a_url_are_not_shown() {
        for (url, shown) in [
            ("postgresql://anna:s3c@ret@db:1/lake?sslmode=require", "postgresql://anna@db:1/lake?sslmode=require"),
            ("postgresql://db/lake?user=anna&password=s3cret", "postgresql://db/lake?user=anna&password=[redacted]"),
            ("postgresql://anna:s3?cr&et@db/lake?sslmode=require", "postgresql://[redacted]@db/lake?sslmode=require"),
            ("https://catalog/v1?credential=id:s3cret", "https://catalog/v1?credential=[redacted]"),
            ("sqlite:///a/b@c.db", "sqlite:///a/b@c.db"),
            ("sqlite:///a/catalog.db", "sqlite:///a/catalog.db"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(shown_url(url), shown);
        }
        let settings = resolve(&[("catalog.url", "postgresql://anna:s3cret@db/lake")], &[], None).unwrap();
        let shown = format!("{settings:?}");
        assert!(shown.contains("anna@db/lake") && !shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn a_misspelt_setting_names_the_settings_there_are() {
        let error = resolve(&[], &[], Some("[log]\nuri = \"x\"")).unwrap_err();
        assert!(error.to_string().contains("log.uri") && error.to_string().contains("log.url"), "{error}");
        assert_eq!(resolve(&[("log", "x")], &[], None).unwrap_err().code(), "unknown_setting");
    }
}
