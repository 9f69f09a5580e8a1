//! Whether an OCSP response (RFC 6960, section 4.2.1) is one that clients would take for a certificate: it is about it and says
//! that it is good; and when. The signature is the client's to check, who knows the issuer.

use std::ops::RangeInclusive;

use x509_parser::asn1_rs::{Any, Class, FromDer as _, GeneralizedTime, Header, ParseResult, Tag};

/// Why a response would not be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OcspError {
    /// Its file cannot be read.
    #[error("{0}")]
    File(String),
    /// Not one.
    #[error("it is not a response in DER")]
    Form,
    /// The responder had no answer.
    #[error("the responder says that it has no answer")]
    Unsuccessful,
    /// About other certificates.
    #[error("it is about another certificate")]
    Other,
    /// Revoked or unknown.
    #[error("it says that the certificate is revoked or unknown")]
    NotGood,
    /// Too old, or of the future.
    #[error("it is not in its time")]
    Time,
}

/// When a response is in its time, in seconds since 1970, or why it never is a response for the certificate.
pub(super) type Staple = Result<RangeInclusive<i64>, OcspError>;

/// Why clients would not take a response at a time; none: they would.
pub(super) fn fault(staple: &Staple, now: i64) -> Option<OcspError> {
    match staple {
        Ok(times) if times.contains(&now) => None,
        Ok(_) => Some(OcspError::Time),
        Err(error) => Some(error.clone()),
    }
}

/// `status` of `OCSPResponse`: there is an answer.
const SUCCESSFUL: &[u8] = &[0];

/// Checks a response for the certificate with this serial number.
pub(super) fn check(der: &[u8], serial: &[u8]) -> Staple {
    let (rest, response) = Any::from_der(der).map_err(|_| OcspError::Form)?;
    let mut response = Parts::of(&response)?;
    if !rest.is_empty() {
        return Err(OcspError::Form);
    }
    if response.next(Tag::Enumerated)?.data != SUCCESSFUL {
        return Err(OcspError::Unsuccessful);
    }
    // ResponseBytes: the kind of response, and the response in an octet string.
    let bytes = response.tagged(0).ok_or(OcspError::Form)?;
    let mut bytes = Parts::of(&Parts(bytes.data).next(Tag::Sequence)?)?;
    bytes.next(Tag::Oid)?;
    let basic = bytes.next(Tag::OctetString)?;
    let mut basic = Parts::of(&Parts(basic.data).next(Tag::Sequence)?)?;
    let mut data = Parts::of(&basic.next(Tag::Sequence)?)?;
    // ResponseData: version, who answers by name or key, when, the answers.
    let _version = data.tagged(0);
    let _responder = data.tagged(1).or_else(|| data.tagged(2)).ok_or(OcspError::Form)?;
    data.next(Tag::GeneralizedTime)?;
    let mut answers = Parts(data.next(Tag::Sequence)?.data);
    while !answers.0.is_empty() {
        let mut answer = Parts::of(&answers.next(Tag::Sequence)?)?;
        let mut about = Parts::of(&answer.next(Tag::Sequence)?)?;
        about.next(Tag::Sequence)?;
        about.next(Tag::OctetString)?;
        about.next(Tag::OctetString)?;
        if about.next(Tag::Integer)?.data == serial {
            return check_answer(answer);
        }
    }
    Err(OcspError::Other)
}

fn check_answer(mut answer: Parts<'_>) -> Staple {
    answer.tagged(0).ok_or(OcspError::NotGood)?;
    let from = seconds(&answer.next(Tag::GeneralizedTime)?)?;
    let to = match answer.tagged(0) {
        Some(next) => seconds(&Parts(next.data).next(Tag::GeneralizedTime)?)?,
        // Newer information is always to be had then.
        None => i64::MAX,
    };
    Ok(from..=to)
}

fn seconds(time: &Any<'_>) -> Result<i64, OcspError> {
    let time = GeneralizedTime::try_from(time.clone()).map_err(|_| OcspError::Form)?;
    let time = time.utc_datetime().map_err(|_| OcspError::Form)?;
    Ok(time.unix_timestamp())
}

/// What is left of the content of a value.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn of(value: &Any<'a>) -> Result<Self, OcspError> {
        if is(&value.header, Class::Universal, Tag::Sequence) {
            Ok(Self(value.data))
        } else {
            Err(OcspError::Form)
        }
    }

    fn next(&mut self, tag: Tag) -> Result<Any<'a>, OcspError> {
        match self.value() {
            Ok((rest, value)) if is(&value.header, Class::Universal, tag) => {
                self.0 = rest;
                Ok(value)
            }
            Ok(_) | Err(_) => Err(OcspError::Form),
        }
    }

    /// The next value, if it has this tag of the context.
    fn tagged(&mut self, tag: u32) -> Option<Any<'a>> {
        match self.value() {
            Ok((rest, value)) if is(&value.header, Class::ContextSpecific, Tag(tag)) => {
                self.0 = rest;
                Some(value)
            }
            Ok(_) | Err(_) => None,
        }
    }

    fn value(&self) -> ParseResult<'a, Any<'a>> {
        Any::from_der(self.0)
    }
}

fn is(header: &Header<'_>, class: Class, tag: Tag) -> bool {
    header.class() == class && header.tag() == tag
}
