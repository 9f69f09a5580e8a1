//! Echoes in every spelling, whole and in pieces, and what a guest could learn from how they are found.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Body as _, Frame};
use proptest::prelude::*;
use wasmtime_wasi_http::{Error, WasiBody};

use super::*;

/// With everything that an encoding treats in a way of its own.
const SECRET: &str = "sk-l1ve_A?b>c~d&e\"f/g h+i=j%41\\z<Q";

fn echoes(secret: &str) -> Arc<Echoes> {
    Echoes::of([&SecretValue::new(secret.as_bytes().to_vec())])
}

fn masked(secret: &str, text: &[u8]) -> Vec<u8> {
    echoes(secret).mask_whole(text)
}

fn each(text: &str, spell: impl FnMut(u8) -> String) -> String {
    text.bytes().map(spell).collect()
}

fn percent(text: &str, plain: impl Fn(u8) -> bool) -> String {
    each(text, |byte| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    })
}

fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// The names of HTML 5, written out: one that is taken out of the list of the host fails here.
const SIGNS: [(&str, u8); 36] = [
    ("amp", b'&'),
    ("apos", b'\''),
    ("ast", b'*'),
    ("bsol", b'\\'),
    ("colon", b':'),
    ("comma", b','),
    ("commat", b'@'),
    ("dollar", b'$'),
    ("equals", b'='),
    ("excl", b'!'),
    ("grave", b'`'),
    ("gt", b'>'),
    ("Hat", b'^'),
    ("lbrace", b'{'),
    ("lbrack", b'['),
    ("lcub", b'{'),
    ("lowbar", b'_'),
    ("lpar", b'('),
    ("lsqb", b'['),
    ("lt", b'<'),
    ("midast", b'*'),
    ("num", b'#'),
    ("percnt", b'%'),
    ("period", b'.'),
    ("plus", b'+'),
    ("quest", b'?'),
    ("quot", b'"'),
    ("rbrace", b'}'),
    ("rbrack", b']'),
    ("rcub", b'}'),
    ("rpar", b')'),
    ("rsqb", b']'),
    ("semi", b';'),
    ("sol", b'/'),
    ("verbar", b'|'),
    ("vert", b'|'),
];

/// As a page writes it by the names of HTML 5: each sign by its name, if it has one. The one name of two letters, `fjlig`, is not found.
fn by_name(text: &str) -> String {
    each(text, |byte| {
        let sign = SIGNS.iter().find(|(_, sign)| *sign == byte);
        sign.map_or_else(|| char::from(byte).to_string(), |(name, _)| format!("&{name};"))
    })
}

/// Every spelling that is found, by name.
fn spellings(secret: &str) -> Vec<(&'static str, String)> {
    let hex = each(secret, |byte| format!("{byte:02x}"));
    let json = serde_json::to_string(secret).unwrap();
    let json = json.trim_start_matches('"').strip_suffix('"').unwrap().to_owned();
    let base64 = STANDARD_NO_PAD.encode(secret);
    vec![
        ("plain", secret.to_owned()),
        ("upper case", secret.to_uppercase()),
        ("hex", hex.clone()),
        ("upper hex", hex.to_uppercase()),
        (
            "mixed hex",
            each(secret, |byte| format!("{:x}{:X}", byte >> 4, byte & 15)),
        ),
        ("url", percent(secret, unreserved)),
        ("lower url", percent(secret, unreserved).to_lowercase()),
        (
            "form",
            percent(secret, |byte| unreserved(byte) || byte == b' ').replace(' ', "+"),
        ),
        ("every byte of a url", percent(secret, |_| false)),
        (
            "loose url",
            percent(secret, |byte| byte != b'%' && byte != b' ' && byte != b'"'),
        ),
        ("json", json.clone()),
        ("json with slashes", json.replace('/', "\\/")),
        ("json in unicode", each(secret, |byte| format!("\\u00{byte:02x}"))),
        ("javascript", each(secret, |byte| format!("\\x{byte:02X}"))),
        ("octal", each(secret, |byte| format!("\\{byte:03o}"))),
        ("decimal entities", each(secret, |byte| format!("&#{byte};"))),
        ("hexadecimal entities", each(secret, |byte| format!("&#x{byte:X};"))),
        (
            "html",
            secret
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                .replace('"', "&quot;"),
        ),
        ("html 5", by_name(secret)),
        ("padded decimal entities", each(secret, |byte| format!("&#{byte:05};"))),
        (
            "padded hexadecimal entities",
            each(secret, |byte| format!("&#x{byte:04x};")),
        ),
        ("base64 in html 5", by_name(&base64)),
        ("base64 in a url", percent(&base64, unreserved)),
        ("base64 in json", base64.replace('/', "\\/")),
        (
            "base64 in lines",
            base64
                .as_bytes()
                .chunks(19)
                .map(|line| String::from_utf8_lossy(line).into_owned() + "\r\n")
                .collect(),
        ),
        ("utf-16", each(secret, |byte| format!("{}\0", char::from(byte)))),
        ("utf-32", each(secret, |byte| format!("\0\0\0{}", char::from(byte)))),
    ]
}

/// A text of single bytes in each of the encodings that have zeros between them.
fn wide(text: &str) -> [(&'static str, Vec<u8>); 4] {
    let spell = |before: usize, after: usize| {
        let wide = |byte: u8| [vec![0; before], vec![byte], vec![0; after]].concat();
        text.bytes().flat_map(wide).collect::<Vec<u8>>()
    };
    [
        ("utf-16le", spell(0, 1)),
        ("utf-16be", spell(1, 0)),
        ("utf-32le", spell(0, 3)),
        ("utf-32be", spell(3, 0)),
    ]
}

/// All spellings in all of those, with the letters that must not be left.
fn wide_spellings(secret: &str) -> Vec<(String, String, Vec<u8>)> {
    let mut all = Vec::new();
    for (name, spelling) in spellings(secret) {
        if spelling.contains('\0') {
            continue;
        }
        for (encoding, text) in wide(&spelling) {
            all.push((format!("{name} in {encoding}"), spelling.clone(), text));
        }
    }
    all
}

fn without_zeros(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| *byte != 0).collect()
}

/// No run of the secret's own letters or of its encoding survives. Separators, line ends and zeros may.
fn assert_gone(name: &str, spelling: &str, text: &[u8]) {
    let left: Vec<&[u8]> = spelling
        .as_bytes()
        .windows(6)
        .filter(|window| window.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'*'))
        .filter(|window| text.windows(6).any(|other| other == *window))
        .collect();
    assert!(
        left.is_empty(),
        "{name}: {:?} is left of {spelling:?} in {:?}",
        String::from_utf8_lossy(left[0]),
        String::from_utf8_lossy(text)
    );
}

#[test]
fn every_spelling_is_overwritten_at_its_own_length() {
    for (name, spelling) in spellings(SECRET) {
        let text = format!("before|{spelling}|after");
        let out = masked(SECRET, text.as_bytes());
        assert_eq!(out.len(), text.len(), "{name}");
        assert!(
            out.starts_with(b"before|") && out.ends_with(b"|after"),
            "{name}: {out:?}"
        );
        assert_gone(name, &spelling, &out);
    }
}

#[test]
fn every_spelling_is_found_in_wide_characters() {
    for (name, spelling, text) in wide_spellings(SECRET) {
        let around = |text: &[u8]| [b"before|".as_slice(), text, b"|after"].concat();
        let out = masked(SECRET, &around(&text));
        assert_eq!(out.len(), around(&text).len(), "{name}");
        let kept = out.starts_with(b"before|") && out.ends_with(b"|after");
        assert!(kept, "{name}: {out:?}");
        assert_gone(&name, &spelling, &without_zeros(&out));
    }
}

#[test]
fn every_name_of_a_sign_is_read_as_that_sign() {
    for (name, sign) in SIGNS {
        let secret = format!("before{}after-it", char::from(sign));
        for text in [
            format!("before&{name};after-it"),
            format!("BEFORE&{};AFTER-IT", name.to_uppercase()),
        ] {
            assert_eq!(
                masked(&secret, text.as_bytes()),
                "*".repeat(text.len()).as_bytes(),
                "{text}"
            );
        }
    }
}

#[test]
fn an_echo_that_begins_within_an_escape_is_whole_in_wide_characters() {
    // `2` has bits of the secret, and `%2d` is read as an escape.
    let secret = "ga???ghijklmn";
    let encoded = STANDARD_NO_PAD.encode(format!("c{secret}"));
    assert!(encoded.starts_with("Y2d") && encoded.contains('/'), "{encoded}");
    let text = format!("%{}", &encoded[1..].replace('/', "%2F"));
    for (encoding, wide) in [("narrow", text.clone().into_bytes())].into_iter().chain(wide(&text)) {
        let out = without_zeros(&masked(secret, &wide));
        assert!(
            out.starts_with(b"%**"),
            "{encoding}: {:?}",
            String::from_utf8_lossy(&out)
        );
        assert_gone(encoding, &text, &out);
    }
}

#[test]
fn base64_is_found_in_both_alphabets_at_every_alignment_to_the_last_digit() {
    for length in 12..=34 {
        let secret = &SECRET[..length];
        for before in 0..6 {
            for after in 0..4 {
                let text = format!("{}{secret}{}", &"Bearer"[..before], &"\r\nX"[..after.min(3)]);
                for encoded in [
                    STANDARD.encode(&text),
                    STANDARD_NO_PAD.encode(&text),
                    URL_SAFE.encode(&text),
                    URL_SAFE_NO_PAD.encode(&text),
                ] {
                    let out = masked(secret, encoded.as_bytes());
                    // A digit that holds no bit of the secret stays, and every other one goes.
                    let digits = encoded.trim_end_matches('=');
                    let first = before * 8 / 6;
                    let end = ((before + length) * 8).div_ceil(6);
                    let expected = format!(
                        "{}{}{}{}",
                        &digits[..first],
                        "*".repeat(end - first),
                        &digits[end..],
                        &encoded[digits.len()..]
                    );
                    assert_eq!(String::from_utf8_lossy(&out), expected, "{before} {secret} {after}");
                }
            }
        }
    }
}

#[test]
fn what_is_no_echo_stays_as_it_is() {
    let text = format!(
        "{} {} {}",
        &SECRET[1..],
        &SECRET[..SECRET.len() - 1],
        STANDARD.encode(&SECRET[2..])
    );
    assert_eq!(masked(SECRET, text.as_bytes()), text.as_bytes());
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(masked(SECRET, &all), all);
    for odd in [
        "%", "%4", "%%%41", "\\", "\\u00", "\\u00\\u", "&", "&#", "&#x", "&amp", "&&amp;&", "&#;", "\\\\",
    ] {
        assert_eq!(masked(SECRET, odd.as_bytes()), odd.as_bytes(), "{odd}");
    }
}

#[test]
fn two_line_ends_hide_no_echo_and_more_end_one() {
    let secret = "0123456789abcdef";
    for (ends, is_echo) in [("\r\n", true), ("\r\n\r\n", true), ("\r\n\r\n\n", false)] {
        let text = format!("01234567{ends}89abcdef");
        let out = masked(secret, text.as_bytes());
        assert_eq!(out != text.as_bytes(), is_echo, "{ends:?}");
    }
}

#[test]
fn wide_characters_whose_zeros_were_escaped_are_no_echo() {
    // All of it would take more than is held back, and of a long secret the beginning would get out.
    for zero in ["\\u0000", "%00", "&#0;"] {
        for zeros in [1, 3] {
            let text = each(SECRET, |byte| format!("{}{}", char::from(byte), zero.repeat(zeros)));
            let out = masked(SECRET, text.as_bytes());
            assert_eq!(String::from_utf8_lossy(&out), text);
        }
    }
}

#[test]
fn echoes_next_to_and_over_each_other_all_go() {
    let secret = "abababababab";
    assert_eq!(masked(secret, b"xabababababababx"), b"x**************x");
    assert_eq!(masked(secret, b"ababababababababababababab"), [b'*'; 26]);
    let two = Echoes::of([
        &SecretValue::new(b"first-secret".to_vec()),
        &SecretValue::new(b"other-secret".to_vec()),
    ]);
    assert_eq!(
        two.mask_whole(b"first-secret, other-secret"),
        b"************, ************"
    );
    // What only looks like the beginning of an escape hides nothing.
    assert_eq!(masked(secret, b"%ababababababab"), b"%**************");
    assert_eq!(masked(secret, b"%%61bababababab"), b"%**************");
}

#[test]
fn what_stands_in_front_of_an_echo_hides_nothing_of_it() {
    // Each escape ends with the letters that the secret begins with, and the four that follow go on as it does.
    let (secret, echo) = ("61aaaa+xyz-12345", "61aaaa%2Bxyz-12345");
    for before in 0..20 {
        let before = "%61".repeat(before) + "%";
        let out = masked(secret, format!("{before}{echo}").as_bytes());
        let expected = before + &"*".repeat(echo.len());
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}

#[test]
fn what_begins_within_an_echo_hides_nothing_of_it() {
    // Each escape of the echo ends with the letters that the secret begins with.
    for (secret, junk, echo) in [
        ("61aaaa+xyz-12345", "%", "61%61%61%61%61%2Bxyz-12345".to_owned()),
        ("61aaaaaaaaaaaaa", "%", "61".to_owned() + &"%61".repeat(13)),
        ("u0061aaaaaaaaaaaa", "\\", "u0061".to_owned() + &"\\u0061".repeat(12)),
        ("141aaaaaaaaaaaa", "\\", "141".to_owned() + &"\\141".repeat(12)),
        // The echo begins with a backslash that was escaped.
        ("\\a\\a\\a\\a\\a\\a\\a", "\\", "\\\\a".repeat(7)),
        (
            "\\\\\\\\\\\\\\x\\\\x5",
            "\\",
            "\\\\".repeat(7) + "x" + &"\\\\".repeat(2) + "x5",
        ),
        (
            "a\\u0061\\u0061\\u0061",
            "\\",
            "\\u0061".to_owned() + &"\\\\u0061".repeat(3),
        ),
        ("nnnnnnnnnnnn", "\\", "n".repeat(12)),
    ] {
        for before in [
            junk.to_owned(),
            junk.repeat(2),
            junk.repeat(3),
            format!("{junk}{echo}{junk}"),
        ] {
            let out = masked(secret, format!("{before}{echo}.").as_bytes());
            let out = &out[before.len()..];
            let expected = "*".repeat(echo.len()) + ".";
            assert_eq!(String::from_utf8_lossy(out), expected, "{secret} behind {before}");
        }
    }
}

#[test]
fn fields_are_masked_in_names_and_values() {
    let mut fields = HeaderMap::new();
    fields.append("x-plain", HeaderValue::from_static("unchanged"));
    fields.append("set-cookie", HeaderValue::from_static("a=sk-l1ve-0123456789; Path=/"));
    fields.append(
        "set-cookie",
        HeaderValue::from_static("b=736b2d4c3156452d30313233343536373839"),
    );
    fields.append("x-sk-l1ve-0123456789", HeaderValue::from_static("here"));
    let fields = echoes("sk-L1VE-0123456789").mask_fields(&fields);
    let shown: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    assert_eq!(fields.len(), 4);
    for line in [
        "x-plain: unchanged",
        "set-cookie: a=******************; Path=/",
        "set-cookie: b=************************************",
        "x-******************: here",
    ] {
        assert!(shown.iter().any(|one| one == line), "{line} in {shown:?}");
    }
}

type Frames = Vec<Result<Frame<Bytes>, Error>>;

fn body(frames: Frames) -> WasiBody {
    StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
}

fn data(text: &[u8]) -> Result<Frame<Bytes>, Error> {
    Ok(Frame::data(Bytes::copy_from_slice(text)))
}

/// Sizes of the frames that come out, and what they hold.
async fn read(body: WasiBody) -> (Vec<usize>, Vec<u8>, Option<HeaderMap>, bool) {
    let (mut body, mut sizes, mut bytes, mut trailers) = (body, Vec::new(), Vec::new(), None);
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => {
                assert!(!data.is_empty(), "an empty frame is no frame");
                sizes.push(data.len());
                bytes.extend_from_slice(&data);
            }
            Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
            Err(_) => return (sizes, bytes, trailers, true),
        }
    }
    assert!(body.is_end_stream());
    (sizes, bytes, trailers, false)
}

#[tokio::test]
async fn an_echo_is_found_across_frames_cut_anywhere() {
    for (name, spelling) in spellings(SECRET) {
        let filler = "x".repeat(1_500);
        let text = format!("{filler}{spelling}{filler}");
        for size in [1, 3, 1_000] {
            let frames = text.as_bytes().chunks(size).map(data).collect();
            let (_, out, _, failed) = read(super::masked(body(frames), echoes(SECRET))).await;
            assert_eq!((out.len(), failed), (text.len(), false), "{name} in frames of {size}");
            assert_gone(name, &spelling, &out);
            assert!(out.starts_with(filler.as_bytes()) && out.ends_with(&filler.as_bytes()[1..]));
        }
    }
}

#[tokio::test]
async fn all_of_the_longest_spelling_is_held_back() {
    // What is held back is rounded up, and hardly so for this length.
    let secret = SECRET.repeat(10)[..301].to_owned();
    let hex = each(&secret, |byte| format!("{byte:02x}"));
    let (echo, filler) = (each(&hex, |digit| format!("&#x{digit:04x};")), ".".repeat(8_000));
    let text = format!("{filler}{echo}{filler}");
    let frames = text.as_bytes().chunks(100).map(data).collect();
    let (_, out, ..) = read(super::masked(body(frames), echoes(&secret))).await;
    let expected = format!("{filler}{}{filler}", "*".repeat(echo.len()));
    assert_eq!(String::from_utf8_lossy(&out), expected);
}

#[tokio::test]
async fn a_wide_echo_is_found_across_frames_cut_anywhere() {
    // Longer than what would be held back of it without zeros.
    let secret = SECRET.repeat(3);
    for (name, spelling, echo) in wide_spellings(&secret) {
        if !["json in unicode", "hexadecimal entities", "base64 in lines"]
            .iter()
            .any(|one| name.starts_with(one))
        {
            continue;
        }
        let filler = [b'x'; 3_000];
        let text = [filler.as_slice(), &echo, &filler].concat();
        for size in [1, 7, 1_000] {
            let frames = text.chunks(size).map(data).collect();
            let (_, out, _, failed) = read(super::masked(body(frames), echoes(&secret))).await;
            assert_eq!((out.len(), failed), (text.len(), false), "{name} in frames of {size}");
            let out = &out[filler.len()..out.len() - filler.len()];
            assert_gone(&name, &spelling, &without_zeros(out));
        }
    }
}

#[tokio::test]
async fn zeros_are_held_back_for_as_long_as_wide_characters_take() {
    let echoes = echoes("0123456789abcdef");
    let held = |zeros| echoes.held_back(zeros);
    assert_eq!(held(true), 4 * held(false));
    let frames = vec![data(&[0; 20_000]), data(&[b'.'; 20_000]), data(b"."), data(b".")];
    let (sizes, ..) = read(super::masked(body(frames), Arc::clone(&echoes))).await;
    // The first ends with the last zeros that may be of an echo, and when they are gone there is no more held than for text.
    assert_eq!(sizes[0], 20_000 - held(true));
    assert_eq!(sizes[1], 20_000);
    assert_eq!(sizes[2], held(true) - held(false) + 1);
    assert_eq!(sizes[3], 1);
}

#[test]
fn a_long_body_is_looked_through_in_turns() {
    let turns = |frames: Frames, echoes: Arc<Echoes>| {
        let mut body = super::masked(body(frames), echoes);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let polls = std::iter::from_fn(|| Some(std::pin::Pin::new(&mut body).poll_frame(&mut context)));
        polls.take_while(std::task::Poll::is_pending).count()
    };
    // One frame, and many that are there at once of which nothing is given out yet.
    assert_eq!(turns(vec![data(&[b'.'; 40 << 10])], echoes("0123456789abcdef")), 9);
    let short = (0..1_024).map(|_| data(&[b'.'; 40])).collect();
    let longest = "x".repeat(super::super::inject::SECRET_INJECTED_BYTES_MAX);
    assert_eq!(turns(short, echoes(&longest)), 9);
}

#[tokio::test]
async fn trailers_are_masked_and_come_last() {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checked", HeaderValue::from_static("0123456789abcdef"));
    let frames = vec![data(b"0123456789"), data(b"abcdef"), Ok(Frame::trailers(trailers))];
    let (_, out, trailers, _) = read(super::masked(body(frames), echoes("0123456789abcdef"))).await;
    assert_eq!(out, [b'*'; 16]);
    assert_eq!(trailers.unwrap()["x-checked"], "*".repeat(16));
}

#[tokio::test]
async fn a_body_that_breaks_in_the_middle_of_an_echo_shows_nothing_of_it() {
    let frames = vec![data(b"0123456789abcde"), Err(Error::HttpResponseTimeout), data(b"f")];
    let (_, out, _, failed) = read(super::masked(body(frames), echoes("0123456789abcdef"))).await;
    assert!(failed && out.is_empty(), "{out:?}");
}

#[tokio::test]
async fn what_is_held_back_depends_on_the_length_of_the_secret_alone() {
    // A guest that has a server send a guess in pieces sees the same pieces, right or wrong.
    let guess = |text: &str| {
        let frames: Frames = std::iter::once(data(&[b'.'; 5_000]))
            .chain(text.as_bytes().chunks(3).map(data))
            .collect();
        read(super::masked(body(frames), echoes("0123456789abcdef")))
    };
    let (right, whole, ..) = guess("0123456789abcde").await;
    let (wrong, other, ..) = guess("9876543210zyxwv").await;
    assert_eq!(right, wrong);
    assert!(
        whole.ends_with(b"0123456789abcde") && other.ends_with(b"zyxwv"),
        "a part is no echo"
    );
    // And it is bounded: what no echo can reach any more comes out.
    assert!(right[0] >= 5_000 - HELD_BYTES_STEP, "{right:?}");
    let longest = echoes(&"x".repeat(super::super::inject::SECRET_INJECTED_BYTES_MAX));
    assert!(longest.held_bytes <= 136 << 10, "{}", longest.held_bytes);
}

#[test]
fn a_hostile_answer_takes_time_in_proportion_to_its_length() {
    // Half an echo over and over is the worst that a server can do to a search that goes back.
    let secret = "a".repeat(4_000) + "b";
    let answer = vec![b'a'; 1 << 18];
    let echoes = echoes(&secret);
    #[expect(clippy::disallowed_methods, reason = "measures a search")]
    let started = std::time::Instant::now();
    assert_eq!(echoes.mask_whole(&answer), answer);
    assert!(
        started.elapsed() < std::time::Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn of_a_secret_that_repeats_itself_each_byte_is_overwritten_once() {
    // An echo ends at every byte of the answer.
    let echoes = echoes(&"a".repeat(4_000));
    let answer = vec![b'a'; 1 << 16];
    for size in [1, 1 << 15] {
        let mut masker = Masker::new(Arc::clone(&echoes));
        let (mut out, mut overwritten) = (answer.clone(), 0);
        for piece in answer.chunks(size) {
            masker.feed(piece);
            let fresh = masker.marks.fresh.iter();
            overwritten += fresh.map(|mark| mark.end - mark.start).sum::<u64>();
            masker.marks.overwrite(&mut out, 0);
        }
        assert_eq!(overwritten, 1 << 16, "in pieces of {size}");
        assert!(out.iter().all(|byte| *byte == MASK));
    }
}

proptest! {
    /// The same where nearly each byte may be of an escape, or of the beginning of an echo.
    #[test]
    fn no_beginning_hides_another(
        secret in r"\\{0,5}[6u][06a1\\]{11,30}",
        before in r"[%06a1u\\]{0,20}",
        spelled in prop::collection::vec(any::<bool>(), 40),
        backslashes in any::<bool>(),
    ) {
        let mut spelled = spelled.into_iter();
        let echo = each(&secret, |byte| match (spelled.next().unwrap_or_default(), backslashes) {
            (true, false) => format!("%{byte:02x}"),
            (true, true) => format!("\\u00{byte:02x}"),
            (false, true) if byte == b'\\' => "\\\\".to_owned(),
            (false, _) => char::from(byte).to_string(),
        });
        let out = masked(&secret, format!("{before}{echo}").as_bytes());
        let echo = &out[before.len()..];
        prop_assert!(echo.iter().all(|byte| *byte == MASK), "{:?}", String::from_utf8_lossy(echo));
    }

    /// Whatever stands around it and however it is cut, an echo is gone, and the length is what it was.
    #[test]
    fn no_surroundings_hide_an_echo(
        secret in "[!-~]{12,40}",
        before in "[ -~\r\n]{0,40}",
        after in "[ -~\r\n]{0,40}",
        which in 0_usize..4,
        cut in 1_usize..50,
        zeros in prop::sample::select(vec![(0_usize, 0_usize), (0, 1), (1, 0), (0, 3), (3, 0)]),
    ) {
        let spelling = match which {
            0 => secret.clone(),
            1 => each(&secret, |byte| format!("{byte:02X}")),
            2 => percent(&secret, |_| false),
            _ => percent(&secret, unreserved),
        };
        let text = format!("{before}{spelling}{after}");
        let character = |byte: u8| [vec![0; zeros.0], vec![byte], vec![0; zeros.1]].concat();
        let mut out: Vec<u8> = text.bytes().flat_map(character).collect();
        let mut masker = Masker::new(echoes(&secret));
        for piece in out.chunks(cut) {
            masker.feed(piece);
        }
        masker.marks.overwrite(&mut out, 0);
        let width = zeros.0 + 1 + zeros.1;
        let echo = &out[before.len() * width..(before.len() + spelling.len()) * width];
        prop_assert!(echo.iter().all(|byte| matches!(*byte, MASK | 0)), "{:?} of {text:?}", String::from_utf8_lossy(&out));
    }
}
