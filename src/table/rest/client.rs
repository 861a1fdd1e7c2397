//! HTTP to a REST catalog: what is asked, and what an answer means.

use std::fmt;
use std::time::Duration;

use reqwest::{Client, Method, StatusCode, Url};
use serde_json::Value;

use crate::config::shown_url;
use crate::error::{Error, ErrorKind, Result};

/// How long the server may take to let us in, and to answer.
const TO_CONNECT: Duration = Duration::from_secs(10);
const TO_ANSWER: Duration = Duration::from_secs(60);

/// A client of one catalog. Shown without the token.
pub(super) struct Http {
    client: Client,
    base: Url,
    token: Option<String>,
    shown: String,
}

/// What came of a request.
pub(super) enum Answer {
    /// It was done.
    Ok(Value),
    /// What it is about is not there.
    Missing,
    /// It was refused because of what others did.
    Conflict(Error),
    /// It was refused: nothing has happened.
    Refused(Error),
    /// Nobody knows whether it was done: the server failed, or the connection was lost.
    Unknown(Error),
}

impl Answer {
    /// What was asked for; none if it is not there.
    pub(super) fn found(self) -> Result<Option<Value>> {
        match self {
            Self::Ok(value) => Ok(Some(value)),
            Self::Missing => Ok(None),
            Self::Conflict(error) | Self::Refused(error) | Self::Unknown(error) => Err(error),
        }
    }
}

impl Http {
    /// From `http(s)://HOST/PATH`; a user in it is not sent, and its password is the token: `https://token:SECRET@HOST/PATH`.
    pub(super) fn new(url: &str) -> Result<Self> {
        let wrong = || {
            Error::config("catalog_url", "catalog.url is not the URL of a REST catalog")
                .hint("write https://HOST/PATH, or https://token:SECRET@HOST/PATH with a token")
        };
        // The library's error may quote the URL, and the token in it.
        let mut base = Url::parse(url).map_err(|_| wrong())?;
        let token = base.password().map(decoded).transpose()?;
        base.set_password(None).and_then(|()| base.set_username("")).map_err(|()| wrong())?;
        base.set_query(None);
        let shown = shown_url(base.as_str()).trim_end_matches('/').to_owned();
        // A request is sent once: what is sent again is decided where it is known what it does.
        let client = Client::builder()
            .connect_timeout(TO_CONNECT)
            .timeout(TO_ANSWER)
            .redirect(reqwest::redirect::Policy::none())
            .build();
        let client = client.map_err(|error| Error::internal(format!("make an HTTP client: {error}")))?;
        Ok(Self { client, base, token, shown })
    }

    /// The same below a path that stands in URLs as it is: what needs to be encoded in it, is.
    pub(super) fn below(mut self, path: &str) -> Self {
        let path = format!("{}/{path}", self.base.path().trim_end_matches('/'));
        self.base.set_path(&path);
        self
    }

    /// Asks for something by the segments of its path and the parameters of its query.
    pub(super) async fn get(&self, action: &str, path: &[&str], query: &[(&str, &str)]) -> Answer {
        self.send(action, Method::GET, path, query, None).await
    }

    /// Sends something to be done.
    pub(super) async fn post(&self, action: &str, path: &[&str], body: &Value) -> Answer {
        self.send(action, Method::POST, path, &[], Some(body)).await
    }

    /// Takes something away.
    pub(super) async fn delete(&self, action: &str, path: &[&str], query: &[(&str, &str)]) -> Answer {
        self.send(action, Method::DELETE, path, query, None).await
    }

    async fn send(&self, action: &str, method: Method, path: &[&str], query: &[(&str, &str)], body: Option<&Value>) -> Answer {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let mut request = self.client.request(method, url).query(query);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answered = async {
            let response = request.send().await?;
            Ok((response.status(), response.bytes().await?))
        };
        match answered.await {
            Ok((status, body)) => self.answer(action, status, &body),
            Err(error) => {
                let error: reqwest::Error = error;
                let message = format!("{action} (catalog {}): {}", self.shown, causes(&error.without_url()));
                Answer::Unknown(away(message))
            }
        }
    }

    fn answer(&self, action: &str, status: StatusCode, body: &[u8]) -> Answer {
        if status.is_success() {
            return match serde_json::from_slice(if body.is_empty() { b"null" } else { body }) {
                Ok(value) => Answer::Ok(value),
                Err(error) => {
                    Answer::Unknown(away(format!("{action} (catalog {}): the answer is cut off: {error}", self.shown)))
                }
            };
        }
        let message = format!("{action} (catalog {}): {status}: {}", self.shown, said(body));
        match status.as_u16() {
            // Of a server, not of something before it that does not know it for the moment.
            404 if is_of_protocol(body) => Answer::Missing,
            404 => Answer::Unknown(away(message)),
            409 => Answer::Conflict(Error::conflict("catalog", message)),
            401 | 403 | 419 => Answer::Refused(
                Error::config("catalog", message).hint("check the token in catalog.url, and what it may do in this catalog"),
            ),
            400..=499 if status != StatusCode::REQUEST_TIMEOUT && status != StatusCode::TOO_MANY_REQUESTS => Answer::Refused(
                Error::new(ErrorKind::Unavailable, "catalog", message)
                    .retryable(false)
                    .hint("the server does not take this request"),
            ),
            300..=399 => Answer::Refused(
                Error::config("catalog", message).hint("the catalog is at another place: name that in catalog.url"),
            ),
            _ => Answer::Unknown(away(message)),
        }
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

fn away(message: String) -> Error {
    Error::new(ErrorKind::Unavailable, "catalog", message)
        .hint("see whether the server runs and can be reached from here, and whether catalog.url is right")
}

/// Whether an answer is the protocol's document of an error.
fn is_of_protocol(body: &[u8]) -> bool {
    let document: Option<Value> = serde_json::from_slice(body).ok();
    document.is_some_and(|document| document.get("error").is_some_and(Value::is_object))
}

/// What a server says of an error, by the protocol or else as it stands; not more than a line of it.
fn said(body: &[u8]) -> String {
    let document: Option<Value> = serde_json::from_slice(body).ok();
    let message = document.as_ref().and_then(|it| it.pointer("/error/message")).and_then(Value::as_str);
    let text = message.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    text.lines().next().unwrap_or_default().chars().take(300).collect()
}

/// An error with what is behind it: the library's own text says only that a request failed.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// `%XX` as what it stands for.
pub(super) fn decoded(text: &str) -> Result<String> {
    let wrong = || Error::config("catalog_url", "the token in catalog.url is not text").hint("write it with %XX");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = after.split_at_checked(2).ok_or_else(wrong)?;
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_means() {
        let http = Http::new("http://token:s3cr%2Fet@127.0.0.1:1/catalog/").unwrap();
        assert_eq!(http.token.as_deref(), Some("s3cr/et"));
        assert_eq!(format!("{http:?}"), "http://127.0.0.1:1/catalog");
        let meaning = |status: u16| match http.answer("commit", StatusCode::from_u16(status).unwrap(), b"{}") {
            Answer::Ok(_) => "ok",
            Answer::Missing => "missing",
            Answer::Conflict(_) => "conflict",
            Answer::Refused(_) => "refused",
            Answer::Unknown(_) => "unknown",
        };
        for (status, expected) in [(200, "ok"), (204, "ok"), (409, "conflict")] {
            assert_eq!(meaning(status), expected, "{status}");
        }
        // A gateway says 404 too, of a server that it begins again.
        assert_eq!(meaning(404), "unknown");
        let missing = br#"{"error":{"message":"Table does not exist","type":"NoSuchTableException","code":404}}"#;
        assert!(matches!(http.answer("look up", StatusCode::NOT_FOUND, missing), Answer::Missing));
        for status in [301, 400, 401, 403, 422] {
            assert_eq!(meaning(status), "refused", "{status}");
        }
        // Something between may have given up waiting for what goes on.
        for status in [408, 429, 500, 502, 503, 504] {
            assert_eq!(meaning(status), "unknown", "{status}");
        }
        let said =
            http.answer("commit", StatusCode::CONFLICT, br#"{"error":{"message":"branch main has changed","code":409}}"#);
        let Answer::Conflict(error) = said else { panic!() };
        assert!(error.message().ends_with("409 Conflict: branch main has changed"), "{error}");
    }

    #[test]
    fn a_wrong_url_does_not_show_its_token() {
        for wrong in ["http://token:s3cret@:x/", "http://token:s3cret%zz@host/"] {
            let error = Http::new(wrong).unwrap_err();
            assert!(!format!("{error:?}").contains("s3cret"), "{error}");
        }
    }
}
