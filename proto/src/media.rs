//! What HTTP bodies are in: JSON, whatever the header says, but nothing that is another format in truth.

/// Why a body is not taken for JSON: it is compressed, or it is no JSON and its `Content-Type` says so. None where it may be
/// JSON. `curl` sends a form's type with any body, so the header alone decides nothing.
#[must_use]
pub fn unsupported(
    content_type: Option<&str>,
    content_encoding: Option<&str>,
    body: &[u8],
) -> Option<String> {
    let encoding = content_encoding.map_or("", str::trim);
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
        return Some(format!("its Content-Encoding is `{encoding}`"));
    }
    let media = content_type?.split(';').next().unwrap_or_default().trim();
    let is_json = ["application/json", "application/x-ndjson", "application/jsonl", "text/plain", ""]
        .iter()
        .any(|json| media.eq_ignore_ascii_case(json))
        || media.ends_with("+json");
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let begins_as_json = match body.trim_ascii_start().first() {
        None => true,
        Some(first) => matches!(first, b'{' | b'['),
    };
    (!is_json && !begins_as_json).then(|| format!("its Content-Type is `{media}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_taken_whatever_the_header_says() {
        let form = Some("application/x-www-form-urlencoded");
        for (media, encoding, body) in [
            (None, None, "x"),
            (form, None, " {\"rows\": []}"),
            (form, None, ""),
            (Some("application/json; charset=utf-8"), Some("identity"), "x"),
            (Some("application/vnd.api+json"), None, "x"),
        ] {
            assert_eq!(unsupported(media, encoding, body.as_bytes()), None, "{media:?} {body}");
        }
    }

    #[test]
    fn another_format_is_told() {
        let form = Some("application/x-www-form-urlencoded");
        let told = unsupported(form, None, b"user_id=1");
        assert_eq!(told.as_deref(), Some("its Content-Type is `application/x-www-form-urlencoded`"));
        let told = unsupported(Some("application/json"), Some("gzip"), &[0x1f, 0x8b]);
        assert_eq!(told.as_deref(), Some("its Content-Encoding is `gzip`"));
        let told = unsupported(Some("application/octet-stream"), None, &[0x1f, 0x8b]);
        assert!(told.is_some());
    }
}
