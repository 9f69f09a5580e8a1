//! Tokens that are good but for one thing, keys that come and go, and an issuer that counts how often it is asked.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use aral_contract::Clock;
use aral_runtime::outbound::{Outbound, OutboundOptions, ServerUrl};
use jiff::Timestamp;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::jwk::Jwk;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.example";

/// Shown to a server that is one resource, without a certificate.
const BARE: Presented<'static> = Presented {
    mcp: None,
    at_mcp: false,
    certificate: None,
};

/// A clock that the test sets, in seconds.
#[derive(Debug, Default)]
struct Hand(Mutex<u64>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(*self.0.lock().unwrap())
    }
}

/// A private key of an issuer with its public half.
struct Signer {
    id: &'static str,
    algorithm: TokenAlgorithm,
    key: EncodingKey,
    public: Value,
}

impl Signer {
    fn new(id: &'static str, algorithm: TokenAlgorithm) -> Self {
        let kind = match algorithm {
            TokenAlgorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
            TokenAlgorithm::ES384 => &PKCS_ECDSA_P384_SHA384,
            TokenAlgorithm::EdDSA => &PKCS_ED25519,
            _ => &PKCS_RSA_SHA256,
        };
        let pair = KeyPair::generate_for(kind).unwrap();
        let pem = pair.serialize_pem();
        let key = match algorithm {
            TokenAlgorithm::ES256 | TokenAlgorithm::ES384 => EncodingKey::from_ec_pem(pem.as_bytes()),
            TokenAlgorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        }
        .unwrap();
        let mut public = if algorithm == TokenAlgorithm::EdDSA {
            let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
            json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": x })
        } else {
            serde_json::to_value(Jwk::from_encoding_key(&key, algorithm.into()).unwrap()).unwrap()
        };
        public["kid"] = json!(id);
        Self {
            id,
            algorithm,
            key,
            public,
        }
    }

    fn header(&self) -> Value {
        json!({ "alg": self.algorithm.as_str(), "typ": "at+jwt", "kid": self.id })
    }

    fn sign(&self, header: &Value, claims: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let message = format!("{}.{}", encode(&header.to_string()), encode(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm.into()).unwrap();
        format!("{message}.{signature}")
    }

    /// A good token with claims changed.
    fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = claims();
        change(&mut claims);
        self.sign(&self.header(), &claims.to_string())
    }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "alice", "aud": "https://aral.example", "iat": NOW, "exp": NOW + 600,
        "scope": "openid aral:agent", "client_id": "app", "jti": "1",
    })
}

fn set(signers: &[&Signer]) -> Vec<u8> {
    let keys: Vec<&Value> = signers.iter().map(|signer| &signer.public).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

fn fixed(signers: &[&Signer]) -> KeysPlace {
    KeysPlace::Fixed(Arc::new(KeySet::parse(&set(signers)).unwrap()))
}

fn options(keys: KeysPlace, algorithms: &[TokenAlgorithm]) -> IssuerOptions {
    let sessions = crate::tests::sessions(&["operator", "agent"]);
    let scopes = ["aral:operator", "aral:agent"].map(str::to_owned);
    IssuerOptions {
        issuer: ISSUER.to_owned(),
        audiences: vec!["https://aral.example".to_owned(), "https://aral.example/mcp".to_owned()],
        algorithms: algorithms.to_vec(),
        types: vec!["at+jwt".to_owned()],
        keys,
        leeway: Duration::from_secs(30),
        lifetime_max: Duration::from_secs(3600),
        scopes: scopes.into_iter().zip(sessions).collect(),
    }
}

fn issuers(options: IssuerOptions) -> Issuers {
    Issuers::new(vec![options], Arc::new(Hand::default()))
}

/// Who bears it: the persona.
async fn persona(issuers: &Issuers, token: &str) -> Result<String, &'static str> {
    let caller = issuers.caller(token, BARE).await.map_err(Doubt::reason)?;
    Ok(caller.session.persona().body.id.to_string())
}

#[tokio::test]
async fn each_algorithm_verifies_with_its_key_and_no_other_is_taken() {
    use TokenAlgorithm::*;
    let rsa = [RS256, RS384, RS512, PS256, PS384, PS512];
    let mut one = Signer::new("one", RS256);
    // It says what it is for; without that it is good for all of its kind.
    assert_eq!(one.public["alg"], "RS256");
    for algorithm in rsa {
        one.public.as_object_mut().unwrap().remove("alg");
        one.algorithm = algorithm;
        let all = issuers(options(fixed(&[&one]), &rsa));
        assert_eq!(
            persona(&all, &one.token(|_| ())).await.unwrap(),
            "agent",
            "{algorithm:?}"
        );
        let other = if algorithm == RS256 { PS256 } else { RS256 };
        let pinned = issuers(options(fixed(&[&one]), &[other]));
        let refused = persona(&pinned, &one.token(|_| ())).await.unwrap_err();
        assert_eq!(
            refused, "a token with an algorithm that is not agreed on",
            "{algorithm:?}"
        );
        one.public["alg"] = json!(other.as_str());
        let bound = issuers(options(fixed(&[&one]), &rsa));
        let refused = persona(&bound, &one.token(|_| ())).await.unwrap_err();
        assert_eq!(refused, "a token with an unknown key", "{algorithm:?}");
    }
    for algorithm in [ES256, ES384, EdDSA] {
        let one = Signer::new("one", algorithm);
        let two = Signer::new("one", algorithm);
        let all = issuers(options(fixed(&[&one]), &[ES256, ES384, EdDSA]));
        assert_eq!(
            persona(&all, &one.token(|_| ())).await.unwrap(),
            "agent",
            "{algorithm:?}"
        );
        let refused = persona(&all, &two.token(|_| ())).await.unwrap_err();
        assert_eq!(refused, "a token with a wrong signature", "{algorithm:?}");
    }
}

#[tokio::test]
async fn what_a_token_says_of_itself_is_not_believed() {
    let one = Signer::new("one", TokenAlgorithm::EdDSA);
    let evil = Signer::new("one", TokenAlgorithm::EdDSA);
    let all = issuers(options(fixed(&[&one]), &[TokenAlgorithm::EdDSA, TokenAlgorithm::RS256]));
    let claims = claims().to_string();
    let with = |signer: &Signer, change: &dyn Fn(&mut Value)| {
        let mut header = one.header();
        change(&mut header);
        signer.sign(&header, &claims)
    };
    let mut unsigned = with(&one, &|header| header["alg"] = json!("none"));
    unsigned.truncate(unsigned.rfind('.').unwrap() + 1);
    let algorithm = "a token with an algorithm that is not agreed on";
    for (case, token, reason) in [
        ("no algorithm", unsigned.clone(), algorithm),
        (
            "a shared secret",
            with(&one, &|header| header["alg"] = json!("HS256")),
            algorithm,
        ),
        (
            "other letters",
            with(&one, &|header| header["alg"] = json!("eddsa")),
            algorithm,
        ),
        (
            "a key of another kind",
            with(&one, &|header| header["alg"] = json!("RS256")),
            "a token with an unknown key",
        ),
        (
            "its own key",
            with(&evil, &|header| header["jwk"] = evil.public.clone()),
            "a token with a wrong signature",
        ),
        (
            "its own address",
            with(&evil, &|header| header["jku"] = json!("https://evil.example/jwks")),
            "a token with a wrong signature",
        ),
        (
            "another key",
            with(&one, &|header| header["kid"] = json!("two")),
            "a token with an unknown key",
        ),
        (
            "a long id",
            with(&one, &|header| header["kid"] = json!("k".repeat(257))),
            "a token with an id of a key that is too long",
        ),
        (
            "an id token",
            with(&one, &|header| header["typ"] = json!("JWT")),
            "a token of another type",
        ),
        (
            "no type",
            with(&one, &|header| drop(header.as_object_mut().unwrap().remove("typ"))),
            "a token of another type",
        ),
        (
            "an extension",
            with(&one, &|header| header["crit"] = json!(["exp"])),
            "a token with extensions that must be understood",
        ),
        (
            "no signature",
            format!("{}.", one.token(|_| ()).rsplit_once('.').unwrap().0),
            "a token with a wrong signature",
        ),
        ("two parts", "a.b".to_owned(), "a credential of no known form"),
        ("one part", "abc".to_owned(), "a credential of no known form"),
        ("five parts", "a.b.c.d.e".to_owned(), "a token that is not base64url"),
        ("not base64url", "a+.b.c".to_owned(), "a token that is not base64url"),
        (
            "no JSON",
            format!("{}.e30.x", URL_SAFE_NO_PAD.encode("{")),
            "a token whose header is not taken",
        ),
    ] {
        assert_eq!(persona(&all, &token).await, Err(reason), "{case}");
    }
    assert_eq!(
        persona(&all, &with(&one, &|header| header["typ"] = json!("application/AT+JWT")))
            .await
            .unwrap(),
        "agent"
    );
    let typed = IssuerOptions {
        types: vec!["JWT".to_owned()],
        ..options(fixed(&[&one]), &[TokenAlgorithm::EdDSA])
    };
    assert!(
        persona(&issuers(typed), &with(&one, &|header| header["typ"] = json!("jwt")))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_token_is_for_this_server_and_valid_now() {
    let one = Signer::new("one", TokenAlgorithm::EdDSA);
    let all = issuers(options(fixed(&[&one]), &[TokenAlgorithm::EdDSA]));
    type Change<'a> = (&'a str, &'a dyn Fn(&mut Value), Option<&'a str>);
    let cases: &[Change<'_>] = &[
        (
            "another issuer",
            &|it| it["iss"] = json!("https://other.example"),
            Some("a token of an unknown issuer"),
        ),
        (
            "a slash more",
            &|it| it["iss"] = json!("https://issuer.example/"),
            Some("a token of an unknown issuer"),
        ),
        (
            "no issuer",
            &|it| it["iss"] = Value::Null,
            Some("a token without `iss`"),
        ),
        (
            "another audience",
            &|it| it["aud"] = json!("https://other.example"),
            Some("a token for another audience"),
        ),
        (
            "a longer audience",
            &|it| it["aud"] = json!("https://aral.example.org"),
            Some("a token for another audience"),
        ),
        (
            "no audience",
            &|it| it["aud"] = Value::Null,
            Some("a token without `aud`"),
        ),
        (
            "an empty list",
            &|it| it["aud"] = json!([]),
            Some("a token for another audience"),
        ),
        (
            "one of two",
            &|it| it["aud"] = json!(["https://other.example", "https://aral.example"]),
            None,
        ),
        ("the other", &|it| it["aud"] = json!("https://aral.example/mcp"), None),
        (
            "a number",
            &|it| it["aud"] = json!(1),
            Some("a token whose claims are not taken"),
        ),
        ("no end", &|it| it["exp"] = Value::Null, Some("a token without `exp`")),
        (
            "no beginning",
            &|it| it["iat"] = Value::Null,
            Some("a token without `iat`"),
        ),
        (
            "an end in words",
            &|it| it["exp"] = json!("tomorrow"),
            Some("a token whose claims are not taken"),
        ),
        (
            "an end before time",
            &|it| it["exp"] = json!(-1),
            Some("a token whose claims are not taken"),
        ),
        (
            "an end after all time",
            &|it| it["exp"] = json!(u64::MAX),
            Some("a token whose claims are not taken"),
        ),
        (
            "an infinite end",
            &|it| it["exp"] = json!(1e300),
            Some("a token whose claims are not taken"),
        ),
        ("a fraction", &|it| it["exp"] = json!(NOW as f64 + 600.5), None),
        (
            "over, within the leeway",
            &|it| (it["iat"], it["exp"]) = (json!(NOW - 600), json!(NOW - 29)),
            None,
        ),
        (
            "over",
            &|it| (it["iat"], it["exp"]) = (json!(NOW - 600), json!(NOW - 30)),
            Some("a token that has expired"),
        ),
        ("a clock ahead", &|it| it["iat"] = json!(NOW + 30), None),
        (
            "of the future",
            &|it| it["iat"] = json!(NOW + 31),
            Some("a token of the future"),
        ),
        ("valid in a moment", &|it| it["nbf"] = json!(NOW + 30), None),
        (
            "not valid yet",
            &|it| it["nbf"] = json!(NOW + 31),
            Some("a token that is not valid yet"),
        ),
        ("valid for an hour", &|it| it["exp"] = json!(NOW + 3600), None),
        (
            "valid for longer",
            &|it| it["exp"] = json!(NOW + 3601),
            Some("a token that is valid for too long"),
        ),
        ("nobody", &|it| it["sub"] = Value::Null, Some("a token without `sub`")),
        (
            "an empty name",
            &|it| it["sub"] = json!(""),
            Some("a token without `sub`"),
        ),
        (
            "a long name",
            &|it| it["sub"] = json!("s".repeat(1025)),
            Some("a token with a subject that is too long"),
        ),
        (
            "no scope",
            &|it| it["scope"] = Value::Null,
            Some("a token without a scope of the list"),
        ),
        (
            "another scope",
            &|it| it["scope"] = json!("aral:agents openid"),
            Some("a token without a scope of the list"),
        ),
        (
            "a scope in capitals",
            &|it| it["scope"] = json!("ARAL:AGENT"),
            Some("a token without a scope of the list"),
        ),
    ];
    for (case, change, reason) in cases {
        let found = persona(&all, &one.token(change)).await;
        assert_eq!(found.err(), *reason, "{case}");
    }
    // What the issuer signed is no guess, and what anybody may have written is one.
    let over = one.token(|it| (it["iat"], it["exp"]) = (json!(NOW - 600), json!(NOW - 30)));
    let refused = all.caller(&over, BARE).await.err();
    assert_eq!(refused, Some(Doubt::Genuine("a token that has expired")));
    let (message, _) = over.rsplit_once('.').unwrap();
    let refused = all.caller(&format!("{message}.AAAA"), BARE).await.err();
    assert_eq!(refused, Some(Doubt::Bad("a token with a wrong signature")));
    let text = claims().to_string();
    let twice = text.replacen('{', "{\"sub\":\"bob\",", 1);
    let refused = persona(&all, &one.sign(&one.header(), &twice)).await;
    assert_eq!(
        refused,
        Err("a token whose claims are not taken"),
        "a claim that is there twice"
    );
    let both = one.token(|it| it["scope"] = json!("aral:agent aral:operator"));
    assert_eq!(
        persona(&all, &both).await.unwrap(),
        "operator",
        "the first of the configuration counts"
    );
}

#[tokio::test]
async fn a_token_for_mcp_is_one_for_nothing_else_where_its_issuer_tells_them_apart() {
    let one = Signer::new("one", TokenAlgorithm::EdDSA);
    let (root, mcp, third) = ("https://aral.example", "https://aral.example/mcp", "api://aral");
    for (audiences, given, at_mcp, elsewhere) in [
        (vec![root, mcp], vec![root], false, true),
        (vec![root, mcp], vec![mcp], true, false),
        (vec![root, mcp], vec![mcp, root], true, true),
        (vec![third, mcp], vec![third], false, true),
        (vec![third, mcp], vec![mcp], true, false),
        // One audience, or several of which none is that of MCP.
        (vec![root], vec![root], true, true),
        (vec![mcp], vec![mcp], true, true),
        (vec![root, third], vec![third], true, true),
    ] {
        let all = issuers(IssuerOptions {
            audiences: audiences.iter().copied().map(str::to_owned).collect(),
            ..options(fixed(&[&one]), &[TokenAlgorithm::EdDSA])
        });
        let token = one.token(|it| it["aud"] = json!(given));
        for (is_at_mcp, is_taken) in [(true, at_mcp), (false, elsewhere)] {
            let presented = Presented {
                mcp: Some(mcp),
                at_mcp: is_at_mcp,
                ..BARE
            };
            let expected = (!is_taken).then_some(Doubt::Genuine("a token for another audience"));
            let found = all.caller(&token, presented).await;
            assert_eq!(found.err(), expected, "{audiences:?} {given:?} at MCP: {is_at_mcp}");
        }
    }
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_key_is_good_with_the_certificate_of_that_key_alone() {
    let one = Signer::new("one", TokenAlgorithm::EdDSA);
    let all = issuers(options(fixed(&[&one]), &[TokenAlgorithm::EdDSA]));
    let (own, other) = (Digest::of(b"own"), Digest::of(b"other"));
    let [own_text, other_text] = [own, other].map(|digest| URL_SAFE_NO_PAD.encode(digest.as_bytes()));
    let padded = format!("{own_text}=");
    let refused = Some(Doubt::Genuine("a token that is bound to a key which was not shown"));
    for (case, bound, certificate, expected) in [
        ("nothing", Value::Null, None, None),
        ("nothing, with a certificate", Value::Null, Some(own), None),
        ("its certificate", json!({ "x5t#S256": own_text }), Some(own), None),
        ("no certificate", json!({ "x5t#S256": own_text }), None, refused),
        ("another one", json!({ "x5t#S256": other_text }), Some(own), refused),
        ("in another encoding", json!({ "x5t#S256": padded }), Some(own), refused),
        ("a key of DPoP", json!({ "jkt": own_text }), Some(own), refused),
        (
            "a key of DPoP besides",
            json!({ "x5t#S256": own_text, "jkt": own_text }),
            Some(own),
            refused,
        ),
        ("a key in full", json!({ "jwk": {} }), Some(own), refused),
        ("a number", json!({ "x5t#S256": 1 }), Some(own), refused),
        ("an empty object", json!({}), Some(own), refused),
        ("a text", json!(own_text), Some(own), refused),
    ] {
        let token = one.token(|it| it["cnf"] = bound);
        let found = all.caller(&token, Presented { certificate, ..BARE }).await;
        assert_eq!(found.err(), expected, "{case}");
    }
    let twice = format!(r#"{{"cnf":{{"x5t#S256":"{other_text}","x5t#S256":"{own_text}"}},"#);
    let token = one.sign(&one.header(), &claims().to_string().replacen('{', &twice, 1));
    let certificate = Some(own);
    let found = all.caller(&token, Presented { certificate, ..BARE }).await;
    assert_eq!(found.err(), refused, "two certificates");
}

#[tokio::test]
async fn every_subject_of_every_issuer_is_somebody_else() {
    let one = Signer::new("one", TokenAlgorithm::EdDSA);
    let list = ["https://issuer.example", "https://issuer.example\nalice"].map(|issuer| IssuerOptions {
        issuer: issuer.to_owned(),
        ..options(fixed(&[&one]), &[TokenAlgorithm::EdDSA])
    });
    let all = Issuers::new(list.into(), Arc::new(Hand::default()));
    let mut names = Vec::new();
    for (issuer, subject) in [
        ("https://issuer.example", "alice"),
        ("https://issuer.example", "bob"),
        ("https://issuer.example\nalice", "alice"),
    ] {
        let token = one.token(|it| (it["iss"], it["sub"]) = (json!(issuer), json!(subject)));
        let caller = all.caller(&token, BARE).await.unwrap();
        assert!(caller.name.as_str().starts_with("token-"), "{}", caller.name);
        assert_eq!(all.caller(&token, BARE).await.unwrap().name, caller.name);
        names.push(caller.name.clone());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3);
}

#[tokio::test]
async fn a_token_without_the_id_of_a_key_needs_no_choice() {
    let (one, two) = (
        Signer::new("one", TokenAlgorithm::EdDSA),
        Signer::new("two", TokenAlgorithm::EdDSA),
    );
    let other = Signer::new("three", TokenAlgorithm::ES256);
    let mut header = one.header();
    header.as_object_mut().unwrap().remove("kid");
    let token = one.sign(&header, &claims().to_string());
    let only = issuers(options(fixed(&[&other, &one]), &[TokenAlgorithm::EdDSA]));
    assert_eq!(persona(&only, &token).await.unwrap(), "agent");
    let both = issuers(options(fixed(&[&one, &two]), &[TokenAlgorithm::EdDSA]));
    assert_eq!(persona(&both, &token).await, Err("a token with an unknown key"));
}

#[test]
fn keys_that_are_weak_or_for_something_else_are_not_there() {
    let good = Signer::new("one", TokenAlgorithm::RS256).public;
    let curve = Signer::new("one", TokenAlgorithm::ES256).public;
    let edwards = Signer::new("one", TokenAlgorithm::EdDSA).public;
    let longer = Signer::new("one", TokenAlgorithm::ES384).public;
    let parse = |keys: Value| KeySet::parse_public(json!({ "keys": keys }).to_string().as_bytes());
    let with = |base: &Value, name: &str, value: Value| {
        let mut key = base.clone();
        key[name] = value;
        parse(json!([key]))
    };
    for one in [&good, &curve, &edwards, &longer] {
        assert!(parse(json!([one])).is_ok(), "{one}");
    }
    assert!(with(&good, "use", json!("sig")).is_ok());
    assert!(with(&good, "key_ops", json!(["verify"])).is_ok());
    let short = URL_SAFE_NO_PAD.encode([0xff; 128]);
    let beside = |length: usize| json!(URL_SAFE_NO_PAD.encode(vec![1; length]));
    // No point of the curve has 2 as y.
    let two = URL_SAFE_NO_PAD.encode([vec![2], vec![0; 31]].concat());
    // The neutral point: everybody can sign for it.
    let neutral = URL_SAFE_NO_PAD.encode([vec![1], vec![0; 31]].concat());
    let padded = URL_SAFE_NO_PAD.encode([vec![0; 128], vec![0xff; 128]].concat());
    for (case, refused) in [
        ("for encryption", with(&good, "use", json!("enc"))),
        ("for signing alone", with(&good, "key_ops", json!(["sign"]))),
        ("1024 bits", with(&good, "n", json!(short))),
        ("1024 bits and zeros", with(&good, "n", json!(padded))),
        ("another curve", with(&curve, "crv", json!("P-521"))),
        ("half a point", with(&curve, "x", json!("AAAA"))),
        ("a point beside P-256", with(&curve, "y", beside(32))),
        ("a point beside P-384", with(&longer, "y", beside(48))),
        ("a point beside Ed25519", with(&edwards, "x", json!(two))),
        ("a point that is nobody's", with(&edwards, "x", json!(neutral))),
        ("a curve that nobody knows", with(&curve, "crv", json!("secp256k1"))),
        (
            "a secret",
            parse(json!([{ "kty": "oct", "k": "c2VjcmV0", "kid": "one" }])),
        ),
        (
            "a kind that nobody knows",
            parse(json!([{ "kty": "AKP", "kid": "one" }])),
        ),
        ("no key", parse(json!([]))),
    ] {
        assert!(matches!(refused, Err(KeySetError::NoKey)), "{case}: {refused:?}");
    }
    assert!(
        parse(json!([{ "kty": "AKP" }, good])).is_ok(),
        "others beside it do not matter"
    );
    assert!(matches!(parse(json!(vec![&good; 65])), Err(KeySetError::TooMany(65))));
    assert!(matches!(KeySet::parse(b"{}"), Err(KeySetError::Json(_))));
}

#[test]
fn a_set_says_which_algorithms_its_keys_are_for() {
    let signers = [TokenAlgorithm::ES256, TokenAlgorithm::EdDSA].map(|algorithm| Signer::new("one", algorithm));
    let algorithms = |signers: &[&Signer]| KeySet::parse(&set(signers)).unwrap().algorithms();
    assert_eq!(algorithms(&[&signers[0]]), [TokenAlgorithm::ES256]);
    let both = [TokenAlgorithm::ES256, TokenAlgorithm::EdDSA];
    assert_eq!(algorithms(&[&signers[1], &signers[0]]), both);
}

#[test]
fn what_is_no_set_of_keys_is_not_quoted() {
    for text in [r#""c2VjcmV0""#, r#"{ "keys": "c2VjcmV0" }"#] {
        let refused = KeySet::parse_public(text.as_bytes()).unwrap_err().to_string();
        assert!(refused.contains("a string, expected"), "{refused}");
        assert!(!refused.contains("c2VjcmV0"), "{refused}");
    }
}

#[test]
fn a_private_key_is_no_public_one_in_a_file() {
    let mut key = Signer::new("one", TokenAlgorithm::ES256).public;
    let text = |key: &Value| json!({ "keys": [key] }).to_string();
    assert!(KeySet::parse_public(text(&key).as_bytes()).is_ok());
    // As some programs write what a key has not.
    key["d"] = Value::Null;
    assert!(KeySet::parse_public(text(&key).as_bytes()).is_ok());
    key["d"] = json!("c2VjcmV0");
    let refused = KeySet::parse_public(text(&key).as_bytes()).unwrap_err().to_string();
    assert!(refused.contains("`one`") && !refused.contains("c2VjcmV0"), "{refused}");
    // What an issuer publishes is everybody's already.
    assert!(KeySet::parse(text(&key).as_bytes()).is_ok());
}

/// An issuer of the test: it counts questions, and answers what it is told; without a word it hangs.
struct Server {
    url: ServerUrl,
    asked: Arc<AtomicUsize>,
    answer: Arc<Mutex<String>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let server = Self {
            url: ServerUrl::parse(&url).unwrap(),
            asked: Arc::default(),
            answer: Arc::default(),
        };
        let (asked, answer) = (Arc::clone(&server.asked), Arc::clone(&server.answer));
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let _request = stream.read(&mut [0; 4096]).await;
                asked.fetch_add(1, Ordering::SeqCst);
                let text = answer.lock().unwrap().clone();
                if text.is_empty() {
                    held.push(stream);
                    continue;
                }
                let _gone = stream.write_all(text.as_bytes()).await;
            }
        });
        server
    }

    fn say(&self, status: &str, body: &[u8]) {
        let body = String::from_utf8(body.to_vec()).unwrap();
        let head = format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n",
            body.len()
        );
        *self.answer.lock().unwrap() = format!("{head}location: http://127.0.0.1:1/\r\n\r\n{body}");
    }

    fn hang(&self) {
        self.answer.lock().unwrap().clear();
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Keys that are good for 60 s, serve for 600 s, and are asked for every 10 s at most.
    fn place(&self) -> KeysPlace {
        let client = Outbound::default().client(&self.url, None, Duration::from_secs(5));
        KeysPlace::Url(Arc::new(RemoteKeys {
            server: self.url.clone(),
            client: client.unwrap(),
            outbound: OutboundOptions::default(),
            ttl: Duration::from_secs(60),
            stale: Duration::from_secs(600),
            refetch: Duration::from_secs(10),
        }))
    }
}

/// Ends once nobody asks an issuer.
async fn rests(all: &Issuers) {
    for issuer in all.list.values() {
        issuer.keys.rests().await;
    }
}

#[tokio::test]
async fn keys_are_fetched_kept_and_replaced() {
    let (one, two) = (
        Signer::new("one", TokenAlgorithm::EdDSA),
        Signer::new("two", TokenAlgorithm::EdDSA),
    );
    let (server, clock) = (Server::start().await, Arc::new(Hand::default()));
    let at = |seconds: u64| *clock.0.lock().unwrap() = seconds;
    let options = options(server.place(), &[TokenAlgorithm::EdDSA]);
    let all = Issuers::new(vec![options], Arc::clone(&clock) as Arc<dyn Clock>);
    let (old, new) = (one.token(|_| ()), two.token(|_| ()));
    let unknown = Err("a token with an unknown key");
    assert_eq!(server.asked(), 0, "nobody asks before there is a token");
    server.say("200 OK", &set(&[&one]));
    for _ in 0..3 {
        assert_eq!(persona(&all, &old).await.unwrap(), "agent");
    }
    assert_eq!(server.asked(), 1);
    // A token with a key that is not known is a reason to ask, but not more often than every 10 s.
    server.say("200 OK", &set(&[&one, &two]));
    assert_eq!(persona(&all, &new).await, unknown);
    assert_eq!(all.caller(&new, BARE).await.err(), Some(Doubt::UnknownKey), "no guess");
    assert_eq!(server.asked(), 1);
    at(10);
    assert_eq!(persona(&all, &new).await.unwrap(), "agent");
    assert_eq!(server.asked(), 2);
    for _ in 0..20 {
        let made_up = Signer::new("made-up", TokenAlgorithm::EdDSA).token(|_| ());
        assert_eq!(persona(&all, &made_up).await, unknown);
    }
    assert_eq!(server.asked(), 2);
    // A key that the issuer withdrew is not taken once the others are old.
    server.say("200 OK", &set(&[&two]));
    at(69);
    assert_eq!(persona(&all, &old).await.unwrap(), "agent");
    at(70);
    assert_eq!(persona(&all, &old).await, unknown);
    assert_eq!(persona(&all, &new).await.unwrap(), "agent");
    assert_eq!(server.asked(), 3);
}

/// Spaces behind JSON are JSON, so that nothing but the length is wrong.
#[tokio::test]
async fn keys_that_are_longer_than_an_issuer_may_answer_are_not_taken() {
    let one = Signer::new("one", TokenAlgorithm::EdDSA);
    for (length, is_taken) in [(256 << 10, true), ((256 << 10) + 1, false)] {
        let server = Server::start().await;
        let mut answer = set(&[&one]);
        answer.resize(length, b' ');
        server.say("200 OK", &answer);
        let all = issuers(options(server.place(), &[TokenAlgorithm::EdDSA]));
        let taken = persona(&all, &one.token(|_| ())).await;
        assert_eq!(taken.is_ok(), is_taken, "{length}: {taken:?}");
    }
}

#[tokio::test]
async fn an_answer_of_an_issuer_is_read_no_further_than_it_may_be_long() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let server = Server {
        url: ServerUrl::parse(&format!("http://{}/jwks", listener.local_addr().unwrap())).unwrap(),
        asked: Arc::default(),
        answer: Arc::default(),
    };
    // Far more than the sockets on the way hold.
    let length = 64 << 20;
    let told = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _request = stream.read(&mut [0; 4096]).await;
        let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b' '; length]).await
    });
    let one = Signer::new("one", TokenAlgorithm::EdDSA);
    let all = issuers(options(server.place(), &[TokenAlgorithm::EdDSA]));
    assert!(persona(&all, &one.token(|_| ())).await.is_err());
    assert!(told.await.unwrap().is_err(), "all of it was read");
}

#[tokio::test]
async fn an_issuer_that_answers_without_any_key_has_withdrawn_them_all() {
    let encrypts = {
        let mut key = Signer::new("three", TokenAlgorithm::ES256).public;
        key["use"] = json!("enc");
        json!({ "keys": [key] }).to_string().into_bytes()
    };
    let unknown = Err("a token with an unknown key");
    for nothing in [set(&[]), encrypts] {
        let (one, server, clock, all, token) = with_a_known_key().await;
        let at = |seconds: u64| *clock.0.lock().unwrap() = seconds;
        server.say("200 OK", &nothing);
        at(59);
        assert_eq!(persona(&all, &token).await.unwrap(), "agent");
        at(60);
        assert_eq!(persona(&all, &token).await, unknown);
        assert_eq!(
            all.caller(&token, BARE).await.err(),
            Some(Doubt::UnknownKey),
            "no guess"
        );
        assert_eq!(server.asked(), 2);
        // It has some again, and then does not answer before it withdraws them.
        server.say("200 OK", &set(&[&one]));
        at(70);
        assert_eq!(persona(&all, &token).await.unwrap(), "agent");
        server.say("503 Service Unavailable", b"");
        at(130);
        assert_eq!(persona(&all, &token).await.unwrap(), "agent");
        server.say("200 OK", &nothing);
        at(140);
        assert_eq!(persona(&all, &token).await.unwrap(), "agent", "nobody waits for it");
        rests(&all).await;
        assert_eq!(persona(&all, &token).await, unknown);
        // Without earlier keys it is the same.
        let list = vec![options(server.place(), &[TokenAlgorithm::EdDSA])];
        let all = Issuers::new(list, Arc::clone(&clock) as Arc<dyn Clock>);
        assert_eq!(persona(&all, &token).await, unknown);
    }
}

#[tokio::test]
async fn while_the_issuer_is_down_its_last_keys_serve_and_not_for_ever() {
    let one = Signer::new("one", TokenAlgorithm::EdDSA);
    let (server, clock) = (Server::start().await, Arc::new(Hand::default()));
    let at = |seconds: u64| *clock.0.lock().unwrap() = seconds;
    let all = Issuers::new(
        vec![options(server.place(), &[TokenAlgorithm::EdDSA])],
        Arc::clone(&clock) as Arc<dyn Clock>,
    );
    let token = one.token(|_| ());
    let none = Err("a token whose issuer's keys cannot be had");
    let large = vec![b' '; 300 << 10];
    // What is no set of keys is none, whatever the status.
    for (number, (status, body)) in (0_u64..).zip([
        ("500 Internal Server Error", set(&[&one])),
        ("302 Found", set(&[&one])),
        ("200 OK", b"{\"keys\":{}}".to_vec()),
        ("200 OK", [set(&[&one]), large].concat()),
    ]) {
        at(number * 10);
        server.say(status, &body);
        assert_eq!(persona(&all, &token).await, none, "{status}");
    }
    assert_eq!(server.asked(), 4);
    assert_eq!(persona(&all, &token).await, none, "asked a moment ago");
    // Without keys nothing is said of any token of it.
    for (case, token) in [
        (
            "another audience",
            one.token(|it| it["aud"] = json!("https://other.example")),
        ),
        (
            "another type",
            one.sign(&json!({ "alg": "EdDSA", "typ": "JWT" }), &claims().to_string()),
        ),
        (
            "no algorithm",
            one.sign(&json!({ "alg": "none", "typ": "at+jwt" }), &claims().to_string()),
        ),
    ] {
        assert_eq!(all.caller(&token, BARE).await.err(), Some(Doubt::NoKeys), "{case}");
    }
    let other = one.token(|it| it["iss"] = json!("https://other.example"));
    let unknown = Doubt::Bad("a token of an unknown issuer");
    assert_eq!(all.caller(&other, BARE).await.err(), Some(unknown));
    assert_eq!(server.asked(), 4);
    at(100);
    server.say("200 OK", &set(&[&one]));
    assert_eq!(persona(&all, &token).await.unwrap(), "agent");
    server.say("503 Service Unavailable", b"");
    for seconds in [160, 300, 699] {
        at(seconds);
        assert_eq!(persona(&all, &token).await.unwrap(), "agent", "{seconds}");
        rests(&all).await;
    }
    assert_eq!(server.asked(), 8);
    at(700);
    assert_eq!(persona(&all, &token).await, none);
    at(710);
    server.say("200 OK", &set(&[&one]));
    assert_eq!(persona(&all, &token).await.unwrap(), "agent");
}

#[tokio::test]
async fn keys_of_a_file_are_those_that_another_configuration_read() {
    let (one, two) = (
        Signer::new("one", TokenAlgorithm::EdDSA),
        Signer::new("two", TokenAlgorithm::EdDSA),
    );
    let of = |signer: &Signer| issuers(options(fixed(&[signer]), &[TokenAlgorithm::EdDSA]));
    let (before, mut after) = (of(&one), of(&two));
    after.take_over(&before);
    assert_eq!(
        persona(&after, &one.token(|_| ())).await,
        Err("a token with an unknown key")
    );
    assert_eq!(persona(&after, &two.token(|_| ())).await.unwrap(), "agent");
}

#[tokio::test]
async fn another_configuration_asks_for_keys_and_has_the_last_ones_while_there_is_no_answer() {
    let signer = Signer::new("one", TokenAlgorithm::EdDSA);
    let (server, clock) = (Server::start().await, Arc::new(Hand::default()));
    let at = |seconds: u64| *clock.0.lock().unwrap() = seconds;
    let issuers = |place: KeysPlace| {
        let clock = Arc::clone(&clock) as Arc<dyn Clock>;
        Issuers::new(vec![options(place, &[TokenAlgorithm::EdDSA])], clock)
    };
    let token = signer.token(|_| ());
    let refused = Err("a token whose issuer's keys cannot be had");
    let first = issuers(server.place());
    server.say("200 OK", &set(&[&signer]));
    assert_eq!(persona(&first, &token).await.unwrap(), "agent");
    // It does not answer any more, and each configuration that is read asks once.
    server.say("503 Service Unavailable", b"");
    at(20);
    let mut second = issuers(server.place());
    second.take_over(&first);
    assert_eq!(server.asked(), 1, "a configuration alone asks for nothing");
    for _ in 0..3 {
        assert_eq!(persona(&second, &token).await.unwrap(), "agent");
    }
    assert_eq!(server.asked(), 2, "keys that are fresh are asked for too");
    // Others are believed only if the same are trusted to show them, at the same address.
    let KeysPlace::Url(remote) = server.place() else {
        unreachable!()
    };
    let other_way = RemoteKeys {
        outbound: OutboundOptions {
            no_proxy: vec!["example.org".to_owned()],
            ..OutboundOptions::default()
        },
        ..(*remote).clone()
    };
    let elsewhere = RemoteKeys {
        server: ServerUrl::parse(&format!("{}other", remote.server.url())).unwrap(),
        ..(*remote).clone()
    };
    for place in [other_way, elsewhere] {
        let mut other = issuers(KeysPlace::Url(Arc::new(place)));
        other.take_over(&second);
        assert_eq!(persona(&other, &token).await, refused);
    }
    let mut fixed = issuers(fixed(&[&Signer::new("one", TokenAlgorithm::EdDSA)]));
    fixed.take_over(&second);
    assert_eq!(persona(&fixed, &token).await, Err("a token with a wrong signature"));
    // However often it is read, they are no better than they were.
    at(599);
    let mut third = issuers(server.place());
    third.take_over(&second);
    assert_eq!(persona(&third, &token).await.unwrap(), "agent");
    at(600);
    assert_eq!(persona(&third, &token).await, refused);
    let mut fourth = issuers(server.place());
    fourth.take_over(&third);
    assert_eq!(persona(&fourth, &token).await, refused);
    // What is withdrawn is gone with the next configuration, and not only when it is old.
    at(700);
    server.say("200 OK", &set(&[&signer]));
    assert_eq!(persona(&fourth, &token).await.unwrap(), "agent");
    server.say("200 OK", &set(&[&Signer::new("two", TokenAlgorithm::EdDSA)]));
    let mut fifth = issuers(server.place());
    fifth.take_over(&fourth);
    let unknown = Err("a token with an unknown key");
    assert_eq!(persona(&fifth, &token).await, unknown);
    // What is still asked under the one before, and answered late, is known to the other as well.
    server.say("200 OK", &set(&[&signer]));
    at(800);
    assert_eq!(persona(&fifth, &token).await.unwrap(), "agent");
    at(900);
    let mut sixth = issuers(server.place());
    sixth.take_over(&fifth);
    server.say("200 OK", &set(&[&Signer::new("two", TokenAlgorithm::EdDSA)]));
    assert_eq!(persona(&fifth, &token).await, unknown);
    server.say("503 Service Unavailable", b"");
    assert_eq!(persona(&sixth, &token).await, unknown);
}

/// An issuer at an address, whose key was asked for once, at second 0, and a token by it.
async fn with_a_known_key() -> (Signer, Server, Arc<Hand>, Issuers, String) {
    let one = Signer::new("one", TokenAlgorithm::EdDSA);
    let (server, clock) = (Server::start().await, Arc::new(Hand::default()));
    let list = vec![options(server.place(), &[TokenAlgorithm::EdDSA])];
    let all = Issuers::new(list, Arc::clone(&clock) as Arc<dyn Clock>);
    let token = one.token(|_| ());
    server.say("200 OK", &set(&[&one]));
    assert_eq!(persona(&all, &token).await.unwrap(), "agent");
    (one, server, clock, all, token)
}

#[tokio::test]
async fn who_comes_while_the_first_asks_after_a_long_rest_waits_and_is_let_in() {
    let (one, server, clock, all, token) = with_a_known_key().await;
    let at = |seconds: u64| *clock.0.lock().unwrap() = seconds;
    // A night: the keys do not serve any more, and the issuer is well.
    at(10_000);
    let both = tokio::join!(persona(&all, &token), persona(&all, &token));
    assert_eq!(both, (Ok("agent".to_owned()), Ok("agent".to_owned())));
    assert_eq!(server.asked(), 2);
    // Nor are they missing for who comes when the issuer is well again.
    server.say("503 Service Unavailable", b"");
    at(20_000);
    assert!(persona(&all, &token).await.is_err());
    server.say("200 OK", &set(&[&one]));
    at(20_010);
    assert_eq!(persona(&all, &token).await.unwrap(), "agent");
    at(30_000);
    let both = tokio::join!(persona(&all, &token), persona(&all, &token));
    assert_eq!(both, (Ok("agent".to_owned()), Ok("agent".to_owned())));
}

#[tokio::test]
async fn who_has_a_known_key_does_not_wait_for_an_issuer_that_brought_nothing() {
    let (_, server, clock, all, token) = with_a_known_key().await;
    let at = |seconds: u64| *clock.0.lock().unwrap() = seconds;
    server.say("503 Service Unavailable", b"");
    at(100);
    assert_eq!(persona(&all, &token).await.unwrap(), "agent");
    assert_eq!(server.asked(), 2);
    at(110);
    {
        // At once, whether the issuer answers or hangs.
        let mut asks = Box::pin(persona(&all, &token));
        assert_eq!(
            futures::poll!(&mut asks),
            std::task::Poll::Ready(Ok("agent".to_owned()))
        );
    }
    // It was asked all the same, and brings others once it is well.
    rests(&all).await;
    assert_eq!(server.asked(), 3);
    server.say("200 OK", &set(&[&Signer::new("two", TokenAlgorithm::EdDSA)]));
    at(120);
    assert_eq!(persona(&all, &token).await.unwrap(), "agent");
    rests(&all).await;
    assert_eq!(persona(&all, &token).await, Err("a token with an unknown key"));
}

#[tokio::test]
async fn so_many_wait_for_an_issuer_that_hangs_and_no_more() {
    let (one, two) = (
        Signer::new("one", TokenAlgorithm::EdDSA),
        Signer::new("two", TokenAlgorithm::EdDSA),
    );
    let (server, clock) = (Server::start().await, Arc::new(Hand::default()));
    let list = vec![options(server.place(), &[TokenAlgorithm::EdDSA])];
    let all = Issuers::new(list, Arc::clone(&clock) as Arc<dyn Clock>);
    server.say("200 OK", &set(&[&one]));
    let (known, unknown) = (one.token(|_| ()), two.token(|_| ()));
    assert_eq!(persona(&all, &known).await.unwrap(), "agent");
    *clock.0.lock().unwrap() = 100;
    server.hang();
    // The first asks.
    let mut waiting: Vec<_> = (0..=WAITING_MAX)
        .map(|_| Box::pin(all.caller(&unknown, BARE)))
        .collect();
    for one in &mut waiting {
        assert!(futures::poll!(one).is_pending());
    }
    {
        let mut beyond = Box::pin(all.caller(&unknown, BARE));
        let std::task::Poll::Ready(answer) = futures::poll!(&mut beyond) else {
            panic!("it waits")
        };
        assert_eq!(answer.err(), Some(Doubt::NoKeys));
    }
    assert_eq!(
        persona(&all, &known).await.unwrap(),
        "agent",
        "a key that is known is one"
    );
    drop(waiting);
    let mut again = Box::pin(all.caller(&unknown, BARE));
    assert!(futures::poll!(&mut again).is_pending(), "the places are free again");
}

#[tokio::test]
async fn who_waits_for_one_issuer_takes_the_place_of_who_waits_for_another() {
    let unknown = Signer::new("one", TokenAlgorithm::EdDSA);
    let names = ["https://one.example", "https://two.example"];
    let servers = [Server::start().await, Server::start().await];
    let list = names.iter().zip(&servers).map(|(name, server)| IssuerOptions {
        issuer: (*name).to_owned(),
        ..options(server.place(), &[TokenAlgorithm::EdDSA])
    });
    let all = Issuers::new(list.collect(), Arc::new(Hand::default()));
    let [one, two] = names.map(|name| unknown.token(|it| it["iss"] = json!(name)));
    // Of each the first asks, and of all together two wait.
    all.rebound(&Bounds {
        requests_max: 8,
        ..Bounds::default()
    });
    let mut waiting: Vec<_> = [&one, &one, &one, &two]
        .map(|token| Box::pin(all.caller(token, BARE)))
        .into();
    for one in &mut waiting {
        assert!(futures::poll!(one).is_pending());
    }
    {
        let mut beyond = Box::pin(all.caller(&two, BARE));
        let std::task::Poll::Ready(answer) = futures::poll!(&mut beyond) else {
            panic!("it waits")
        };
        assert_eq!(answer.err(), Some(Doubt::NoKeys));
    }
    // Also where another configuration is read meanwhile.
    let mut again = Issuers::new(
        vec![IssuerOptions {
            issuer: names[1].to_owned(),
            ..options(servers[1].place(), &[TokenAlgorithm::EdDSA])
        }],
        Arc::new(Hand::default()),
    );
    again.take_over(&all);
    let mut asks = Box::pin(again.caller(&two, BARE));
    assert!(futures::poll!(&mut asks).is_pending());
    {
        let mut beyond = Box::pin(again.caller(&two, BARE));
        assert!(futures::poll!(&mut beyond).is_ready(), "they wait still");
    }
    drop(waiting);
    let mut next = Box::pin(again.caller(&two, BARE));
    assert!(futures::poll!(&mut next).is_pending(), "the places are free again");
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_end_the_question() {
    let one = Signer::new("one", TokenAlgorithm::EdDSA);
    let server = Server::start().await;
    server.say("200 OK", &set(&[&one]));
    let all = issuers(options(server.place(), &[TokenAlgorithm::EdDSA]));
    let token = one.token(|_| ());
    {
        let mut asking = std::pin::pin!(all.caller(&token, BARE));
        // Once round: the question has begun.
        assert!(futures::poll!(&mut asking).is_pending());
    }
    for _ in 0..200 {
        if server.asked() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        persona(&all, &token).await.unwrap(),
        "agent",
        "the keys came, and nobody asks again"
    );
    assert_eq!(server.asked(), 1);
}
