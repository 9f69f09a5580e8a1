//! What a server of HTTP has answered, read from the bytes by somebody who knows no more of HTTP than that: the statuses, one after
//! the other. What stands in a body is none.

/// How an answer of HTTP/1 begins.
const BEGINNING: &[u8] = b"HTTP/1.";

/// The statuses; none: this is no answer of a server.
pub(crate) fn statuses(answer: &[u8]) -> Option<Vec<u16>> {
    if answer.is_empty() || answer.starts_with(BEGINNING) {
        return Some(of_http1(answer));
    }
    None
}

fn of_http1(mut answer: &[u8]) -> Vec<u16> {
    let mut found = Vec::new();
    while let Some((head, rest)) = split(answer, b"\r\n\r\n") {
        let head = String::from_utf8_lossy(head);
        let mut lines = head.split("\r\n");
        // `HTTP/1.1 200 OK`
        let first = lines.next().unwrap_or_default();
        let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
        let Some(status) = status.and_then(|digits| digits.parse().ok()) else {
            break;
        };
        found.push(status);
        let fields: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
        let field = |name: &str| fields.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        let body_end = match (field("content-length"), field("transfer-encoding")) {
            (_, Some(_)) => chunks(rest),
            (Some((_, length)), None) => length.trim().parse().ok(),
            (None, None) => Some(0),
        };
        // One that is not there as a whole is the last.
        let Some(rest) = body_end.and_then(|end| rest.get(end..)) else {
            break;
        };
        answer = rest;
    }
    found
}

/// Where a body in chunks ends (RFC 9112 section 7.1), with no trailers.
fn chunks(body: &[u8]) -> Option<usize> {
    let mut end = 0;
    loop {
        let (size, _) = split(body.get(end..)?, b"\r\n")?;
        let digits = std::str::from_utf8(size).ok()?;
        let bytes = usize::from_str_radix(digits, 16).ok()?;
        end = end.checked_add(size.len() + 2)?.checked_add(bytes)?.checked_add(2)?;
        if bytes == 0 {
            return Some(end);
        }
    }
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let place = bytes.windows(at.len()).position(|window| window == at)?;
    Some((bytes.get(..place)?, bytes.get(place + at.len()..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_where_an_answer_begins_and_nowhere_else() {
        for (answer, expected) in [
            ("", Some(vec![])),
            ("HTTP/1.1 200 OK\r\n\r\n", Some(vec![200])),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHTTP/1.1 500 HTTP/1.1 500 X\r\n\r\n",
                Some(vec![200, 500]),
            ),
            (
                "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\nd\r\nHTTP/1.1 500 \r\n0\r\n\r\nHTTP/1.1 404 X\r\n\r\n",
                Some(vec![200, 404]),
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nHTTP/1.1", Some(vec![200])),
            ("SSH-2.0", None),
        ] {
            assert_eq!(statuses(answer.as_bytes()), expected, "{answer}");
        }
    }
}
