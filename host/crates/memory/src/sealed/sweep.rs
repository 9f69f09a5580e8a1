//! Taking out what has expired, in the order in which it did. It knows no clock but that of its plan, and does nothing where that may
//! be wrong: what is taken out is gone for ever.

use super::plan::{Located, Mark, Plan};
use super::root::Place;
use super::tree::{Scan, prefix};
use super::work::Done;
use crate::record::Swept;
use crate::store::StoreError;

/// Plans the end of the records that have expired, at most so many.
pub(super) fn sweep(plan: &mut Plan<'_>, mark: &mut Mark, records_max: usize) -> Result<Done, StoreError> {
    let mut due: Vec<(u64, Place)> = Vec::new();
    let mut more = false;
    let Some(now) = plan.time.seconds() else {
        return Ok(Done::default());
    };
    plan.tree.scan(&[prefix::EXPIRY], None, &mut |key, _| {
        let parsed = key.get(1..).and_then(|rest| rest.split_first_chunk::<8>());
        let Some((seconds, place)) = parsed.and_then(|(seconds, place)| Some((seconds, place.try_into().ok()?))) else {
            return Ok(Scan::Next);
        };
        let expires = u64::from_be_bytes(*seconds);
        if expires > now {
            return Ok(Scan::Stop);
        }
        if due.len() == records_max {
            more = true;
            return Ok(Scan::Stop);
        }
        due.push((expires, place));
        Ok(Scan::Next)
    })?;
    // Those that are damaged may have their keys elsewhere.
    plan.discarded.add(due.iter().map(|(_, place)| *place));
    let mut records = 0_usize;
    for (expires, place) in due {
        let record = match plan.at(&place) {
            Err(error) if error.is_damage() => {
                tracing::error!("an expired record is damaged and stays; it keeps no other from being removed");
                None
            }
            other => other?,
        };
        match record.filter(|header| header.expires == Some(expires)) {
            Some(header) => match plan.remove(&Located { place, header }, mark) {
                Ok(()) => records = records.saturating_add(1),
                // There are more keys of these than one commit destroys: the next sweep goes on.
                Err(StoreError::Corrupt {
                    what: StoreError::RECORD,
                }) if records > 0 => {
                    more = true;
                    break;
                }
                Err(error) => return Err(error),
            },
            None => plan.forget_expiry(expires, &place),
        }
    }
    Ok(Done {
        swept: Swept { records, more },
        ..Done::default()
    })
}
