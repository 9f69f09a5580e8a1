//! What no server is made from: listeners without places, or open to others, and authorities and callers that fit nothing. It opens
//! nothing.

use std::collections::BTreeSet;
use std::path::Path;

use super::ServerOptions;
use crate::bind_error::{BindError, Lack};
use crate::bounds;
use crate::caller::Callers;
use crate::listener::ListenerOptions;
use crate::token::Issuers;

/// Whether there are places for all listeners, and each can let in whom it should and nobody else.
pub(super) fn check_listeners(options: &ServerOptions, callers: &Callers, issuers: &Issuers) -> Result<(), BindError> {
    let (listeners, connections_max) = (options.listeners.len(), options.bounds.connections_max);
    if bounds::size(connections_max) < listeners {
        return Err(BindError::Places {
            listeners,
            connections_max,
        });
    }
    for listener in &options.listeners {
        check_exposed(listener, callers, issuers)?;
    }
    check_authorities(options, callers)?;
    check_callers(options, callers, issuers)
}

/// A name in a certificate is the word of whoever signed it. Where listeners believe several authorities, each of these could make
/// somebody any caller for whom nobody says whose word it takes.
fn check_authorities(options: &ServerOptions, callers: &Callers) -> Result<(), BindError> {
    let believed = options.listeners.iter().filter_map(ListenerOptions::client_ca_file);
    let believed: BTreeSet<&Path> = believed.collect();
    let unknown = callers.authorities().filter(|(_, file)| !believed.contains(file)).min();
    if let Some((caller, file)) = unknown {
        return Err(BindError::NoAuthority {
            caller: caller.clone(),
            file: file.to_owned(),
        });
    }
    match callers.named_by_all() {
        Some((caller, certificate)) if believed.len() > 1 => Err(BindError::Authorities {
            caller: caller.clone(),
            certificate: certificate.clone(),
            files: believed.into_iter().map(Path::to_owned).collect(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// Whoever says nothing must be somebody, where a listener says who; and tokens must be for something.
fn check_callers(options: &ServerOptions, callers: &Callers, issuers: &Issuers) -> Result<(), BindError> {
    if options.resource.is_none() && !issuers.names().is_empty() {
        return Err(BindError::NoResource);
    }
    for listener in &options.listeners {
        if let Some(name) = &listener.anonymous
            && callers.named(name).is_none()
        {
            return Err(BindError::NoCaller {
                address: listener.address,
                name: name.clone(),
            });
        }
    }
    Ok(())
}

/// What others reach needs TLS, and must ask everybody who they are.
fn check_exposed(listener: &ListenerOptions, callers: &Callers, issuers: &Issuers) -> Result<(), BindError> {
    let address = listener.address;
    if address.ip().is_loopback() {
        return Ok(());
    }
    let client_ca = listener.client_ca_file();
    let known = callers.have_keys()
        || !issuers.names().is_empty()
        || client_ca.is_some_and(|file| callers.have_certificates(file));
    let lacks = [
        (Lack::Tls, listener.tls.is_none()),
        (Lack::Authentication, listener.anonymous.is_some()),
        (Lack::Callers, !known),
    ];
    let lacks: Vec<Lack> = lacks.into_iter().filter_map(|(lack, is)| is.then_some(lack)).collect();
    if lacks.is_empty() {
        Ok(())
    } else {
        Err(BindError::Exposed { address, lacks })
    }
}
