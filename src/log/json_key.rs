//! One top-level column of a JSON line, found without parsing the rest.

/// Finds the value that becomes a record's key.
#[derive(Clone, Debug)]
pub struct KeyColumn {
    name: String,
    /// Text whose escapes had to be resolved.
    resolved: String,
}

/// A run of bytes of a line.
type Run = std::ops::Range<usize>;

impl KeyColumn {
    /// The column with this name.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), resolved: String::new() }
    }

    /// Its value in a line: text without quotes and with escapes resolved; numbers, `true`, lists and objects as they are
    /// written. `None` if the column is missing or null, or if the line is not an object up to there. Of a name that occurs
    /// twice the first counts.
    #[inline]
    pub fn of<'a>(&'a mut self, line: &'a [u8]) -> Option<&'a [u8]> {
        let value = self.find(line)?;
        let bytes = line.get(value)?;
        match bytes {
            b"null" => None,
            [b'"', text @ .., b'"'] if memchr::memchr(b'\\', text).is_none() => Some(text),
            [b'"', ..] => {
                self.resolved = serde_json::from_slice(bytes).ok()?;
                Some(self.resolved.as_bytes())
            }
            other => Some(other),
        }
    }

    fn find(&self, line: &[u8]) -> Option<Run> {
        let mut at = space(line, 0);
        if line.get(at) != Some(&b'{') {
            return None;
        }
        loop {
            at = space(line, at + 1);
            let name = string(line, at)?;
            at = space(line, name.end);
            if line.get(at) != Some(&b':') {
                return None;
            }
            let value = value(line, space(line, at + 1))?;
            if self.is(line.get(name)?) {
                return Some(value);
            }
            at = space(line, value.end);
            if line.get(at) != Some(&b',') {
                return None;
            }
        }
    }

    /// Whether a quoted name is the column's.
    #[inline]
    fn is(&self, quoted: &[u8]) -> bool {
        match quoted {
            [b'"', name @ .., b'"'] if name == self.name.as_bytes() => memchr::memchr(b'\\', name).is_none(),
            _ if memchr::memchr(b'\\', quoted).is_some() => {
                serde_json::from_slice::<String>(quoted).is_ok_and(|name| name == self.name)
            }
            _ => false,
        }
    }
}

#[inline]
fn space(line: &[u8], mut at: usize) -> usize {
    while matches!(line.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// The string that starts at `at`, with its quotes.
#[inline]
fn string(line: &[u8], at: usize) -> Option<Run> {
    if line.get(at) != Some(&b'"') {
        return None;
    }
    let mut next = at + 1;
    loop {
        next += memchr::memchr2(b'"', b'\\', line.get(next..)?)?;
        if line.get(next) == Some(&b'"') {
            return Some(at..next + 1);
        }
        next += 2;
    }
}

/// The value that starts at `at`.
#[inline]
fn value(line: &[u8], at: usize) -> Option<Run> {
    match line.get(at)? {
        b'"' => string(line, at),
        b'{' | b'[' => nested(line, at),
        b',' | b'}' | b']' | b':' => None,
        _ => {
            let rest = line.get(at..)?;
            let size = rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r'))?;
            Some(at..at + size)
        }
    }
}

fn nested(line: &[u8], at: usize) -> Option<Run> {
    let (mut depth, mut next) = (0, at);
    loop {
        match line.get(next)? {
            b'"' => {
                next = string(line, next)?.end;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        next += 1;
        if depth == 0 {
            return Some(at..next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, line: &str) -> Option<String> {
        KeyColumn::new(name).of(line.as_bytes()).map(|key| String::from_utf8(key.to_vec()).unwrap())
    }

    #[test]
    fn values_are_found() {
        let line = r#" { "a" : "x", "n":[1,{"k":"]}"}], "k" : 12.50 ,"s":"","e":"q\"\u00e9\\","t":true,"z":null,"o":{"p":[]}}"#;
        assert_eq!(key("a", line).as_deref(), Some("x"));
        assert_eq!(key("k", line).as_deref(), Some("12.50"));
        assert_eq!(key("s", line).as_deref(), Some(""));
        assert_eq!(key("e", line).as_deref(), Some("q\"é\\"));
        assert_eq!(key("t", line).as_deref(), Some("true"));
        assert_eq!(key("z", line), None);
        assert_eq!(key("o", line).as_deref(), Some(r#"{"p":[]}"#));
        assert_eq!(key("missing", line), None);
        assert_eq!(key("a", r#"{"\u0061":1,"a":2}"#).as_deref(), Some("1"), "a name may be escaped");
    }

    #[test]
    fn what_is_no_object_has_no_key() {
        for line in
            ["", "{", "[]", "x", "{}", r#"{"a"}"#, r#"{"a":}"#, r#"{"a":"x"#, r#"{"a":"\"#, r#"{"b":[}"#, r#"{"b":1 "a":2}"#]
        {
            assert_eq!(key("a", line), None, "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn it_agrees_with_a_parser(values in proptest::collection::vec(("[a-d]", ".{0,6}", 0..4u8), 0..6)) {
            let mut object = serde_json::Map::new();
            for (name, text, shape) in values {
                let text = serde_json::Value::String(text);
                let value = match shape {
                    0 => text,
                    1 => serde_json::json!([1, text, {"a": text}]),
                    2 => serde_json::json!({"a": text, "b": null}),
                    _ => serde_json::json!(-1.5),
                };
                object.insert(name, value);
            }
            let line = serde_json::to_string(&object).unwrap();
            let expected = object.get("a").map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            proptest::prop_assert_eq!(key("a", &line), expected);
        }
    }
}
