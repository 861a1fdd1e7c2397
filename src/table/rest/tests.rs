//! What is asked of a server, and what its answers mean: a server of a few lines says what it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;
use crate::table::metadata::tests::{FIRST, grown};

/// What comes of a request.
enum Then {
    Say(u16, String),
    /// The connection ends in the middle of the answer.
    SayHalf(String),
    /// Or before it.
    Cut,
}

fn ok(body: impl ToString) -> Then {
    Then::Say(200, body.to_string())
}

struct Server {
    url: String,
    /// Requests, as `METHOD TARGET BODY`.
    heard: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `config`: what it overrides. All else is answered by `answer`.
    fn new(config: Value, answer: impl Fn(&str) -> Then + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/catalog/", listener.local_addr().unwrap());
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let (log, answer) = (heard.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer, config) = (log.clone(), answer.clone(), config.clone());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    while let Some(request) = heard_from(&mut reader) {
                        log.lock().unwrap().push(request.clone());
                        let is_config = request.starts_with("GET /catalog/v1/config?warehouse=w ");
                        let then = if is_config { ok(json!({ "overrides": config })) } else { answer(&request) };
                        if !say(&stream, &then) {
                            return;
                        }
                    }
                });
            }
        });
        Self { url, heard }
    }

    fn open(&self) -> (Io, Rest) {
        let io = Io::new().unwrap();
        let rest = Rest::open(&io, &self.url, "w").unwrap();
        (io, rest)
    }

    fn has_heard(&self, beginning: &str) -> bool {
        self.heard.lock().unwrap().iter().any(|request| request.starts_with(beginning))
    }
}

fn heard_from(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).ok().filter(|bytes| *bytes > 0)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", bytes)) => length = bytes.parse().unwrap(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(format!("{} {}", first.trim().trim_end_matches(" HTTP/1.1"), String::from_utf8(body).unwrap()))
}

/// Whether the connection goes on.
fn say(mut stream: &TcpStream, then: &Then) -> bool {
    let (status, body, whole) = match then {
        Then::Say(status, body) => (*status, body.as_str(), true),
        Then::SayHalf(body) => (200, body.as_str(), false),
        Then::Cut => return false,
    };
    let length = if whole { body.len() } else { body.len() * 2 };
    // In one piece: the network waits before it sends the second of two small ones.
    let answer = format!("HTTP/1.1 {status} Said\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).is_ok() && whole
}

fn table() -> TableName {
    TableName::parse("t", "n").unwrap()
}

fn metadata() -> TableMetadata {
    serde_json::from_str(FIRST).unwrap()
}

#[test]
fn the_prefix_stands_in_paths_as_the_server_says_it() {
    let cases = [
        (json!({}), "/catalog/v1/namespaces"),
        (json!({ "prefix": "a" }), "/catalog/v1/a/namespaces"),
        (json!({ "prefix": "/arn%3Aaws%3Atables%2Fb/c d/" }), "/catalog/v1/arn%3Aaws%3Atables%2Fb/c%20d/namespaces"),
    ];
    for (config, path) in cases {
        let server = Server::new(config, |_| ok("{}"));
        let (io, rest) = server.open();
        assert_eq!(io.run(rest.list()).unwrap(), []);
        assert!(server.has_heard(&format!("GET {path} ")), "{path}: {:?}", server.heard);
    }
}

#[test]
fn a_table_without_a_metadata_file_is_refused() {
    for location in ["", "\"metadata-location\":null,", "\"metadata-location\":\"\","] {
        let server = Server::new(json!({}), move |_| ok(format!("{{{location}\"metadata\":{FIRST}}}")));
        let (io, rest) = server.open();
        assert_eq!(io.run(rest.load(&table())).err().unwrap().code(), "no_metadata_location", "{location}");
    }
}

#[test]
fn a_list_whose_tokens_come_again_ends() {
    let page = |name: &str, token: &str| ok(json!({ "identifiers": [{ "name": name }], "next-page-token": token }));
    let asked = Mutex::new(0);
    let server = Server::new(json!({}), move |request| {
        *asked.lock().unwrap() += 1;
        match request {
            _ if *asked.lock().unwrap() > 20 => Then::Say(500, "it goes on and on".to_owned()),
            tables if tables.contains("/tables?pageToken=a") => page("2", "b"),
            tables if tables.contains("/tables?pageToken=b") => page("3", "a"),
            tables if tables.contains("/tables") => page("1", "a"),
            _ => ok(json!({ "namespaces": [["n"]], "next-page-token": null })),
        }
    });
    let (io, rest) = server.open();
    assert_eq!(io.run(rest.list()).unwrap(), ["1", "2", "3"].map(|name| ("n".to_owned(), name.to_owned())));
}

#[test]
fn a_list_without_an_end_is_given_up() {
    let asked = Mutex::new(0);
    let server = Server::new(json!({}), move |_| {
        *asked.lock().unwrap() += 1;
        ok(json!({ "namespaces": [], "next-page-token": asked.lock().unwrap().to_string() }))
    });
    let (io, rest) = server.open();
    let error = io.run(rest.list()).unwrap_err();
    assert!(!error.is_retryable() && error.message().contains("more than 1000 pages"), "{error}");
}

#[test]
fn a_table_is_made_in_the_format_that_kappa_writes() {
    let third = FIRST.replace("\"format-version\":2", "\"format-version\":3,\"next-row-id\":0");
    for (made, taken) in [(FIRST.to_owned(), true), (third, false)] {
        let answer = format!("{{\"metadata-location\":\"file:///m\",\"metadata\":{made}}}");
        let server = Server::new(json!({}), move |request| match request {
            dropped if dropped.starts_with("DELETE") => Then::Say(204, String::new()),
            namespace if namespace.starts_with("POST /catalog/v1/namespaces ") => ok("{}"),
            _ => ok(&answer),
        });
        let (io, rest) = server.open();
        let outcome = io.run(rest.create(&table(), &metadata()));
        let heard = server.heard.lock().unwrap().clone();
        let asked = heard.iter().find(|request| request.starts_with("POST /catalog/v1/namespaces/n/tables ")).unwrap();
        assert!(asked.contains("\"format-version\":\"2\""), "{asked}");
        assert_eq!(server.has_heard("DELETE /catalog/v1/namespaces/n/tables/t?"), !taken);
        match outcome {
            Ok(made) => assert!(taken && made.is_some()),
            Err(error) => assert!(!taken && error.code() == "unsupported_table", "{error}"),
        }
    }
}

/// A server that begins again, a gateway without one behind it, a network: it passes.
#[test]
fn a_server_that_is_away_is_asked_again() {
    let thens: [fn() -> Then; 6] = [
        || Then::Say(500, "{}".to_owned()),
        || Then::Say(502, "<html>".to_owned()),
        || Then::Say(503, String::new()),
        || Then::Say(504, String::new()),
        || Then::SayHalf("{\"namespaces\":[[\"n\"]],".to_owned()),
        || Then::Cut,
    ];
    for then in thens {
        let server = Server::new(json!({}), move |_| then());
        let (io, rest) = server.open();
        let errors = [io.run(rest.load(&table())).err(), io.run(rest.list()).err()];
        for error in errors.map(Option::unwrap) {
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true), "{error}");
        }
    }
}

#[test]
fn a_commit_repeats_what_main_says_of_its_retention() {
    let next = grown(metadata(), 1).build().unwrap().metadata;
    let main = json!({
        "type": "branch", "snapshot-id": 5, "min-snapshots-to-keep": 7, "max-snapshot-age-ms": 8_000_000_000_i64, "max-ref-age-ms": 9,
    });
    let refs: Refs = serde_json::from_value(json!({ "main": main, "a tag": { "type": "tag", "snapshot-id": 5 } })).unwrap();
    let updates = serde_json::to_value(changes::updates(&metadata(), &next, &refs).unwrap()).unwrap();
    let set: Vec<_> = updates.as_array().unwrap().iter().filter(|update| update["action"] == "set-snapshot-ref").collect();
    let mut expected = main;
    expected["action"] = json!("set-snapshot-ref");
    expected["ref-name"] = json!("main");
    expected["snapshot-id"] = json!(next.current_snapshot_id());
    assert_eq!(set, [&expected]);
}
