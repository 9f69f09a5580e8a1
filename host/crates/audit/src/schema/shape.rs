//! How the types of lower layers look in JSON Schema. Those layers know no schema; a test holds each shape against the
//! type it stands for.

use std::borrow::Cow;

use aral_contract::limits::NAME_BYTES_MAX;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::text::TEXT_BYTES_MAX;

macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident as $title:literal = $schema:expr;)*) => {
        $(
            $(#[$doc])*
            pub(super) struct $name;

            impl JsonSchema for $name {
                fn schema_name() -> Cow<'static, str> {
                    $title.into()
                }
                fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
                    $schema
                }
            }
        )*
    };
}

shapes! {
    /// A digest.
    Sha256 as "sha256" = json_schema!({"type": "string", "pattern": "^[0-9a-f]{64}$"});
    /// 16 bytes: a trace id, the id of a log, or a tag.
    Trace as "id128" = json_schema!({"type": "string", "pattern": "^[0-9a-f]{32}$"});
    /// A moment.
    Time as "time" = json_schema!({"type": "string", "format": "date-time"});
    /// A version of a capability.
    Semver as "version" = json_schema!({"type": "string", "pattern": "^[0-9]+\\.[0-9]+\\.[0-9]+(-[0-9A-Za-z.-]+)?(\\+[0-9A-Za-z.-]+)?$"});
    /// A text in clear.
    Plain as "text" = json_schema!({"type": "string", "maxLength": TEXT_BYTES_MAX, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"});
    /// An identifier.
    Identifier as "identifier" = json_schema!({"type": "string", "maxLength": NAME_BYTES_MAX, "pattern": "^[a-z0-9][a-z0-9._-]*$"});
    /// A permission.
    Governed as "permission" = json_schema!({"enum": ["network:read", "network:write", "file:read", "file:write", "secret:read", "secret:write", "memory:read", "memory:write", "exec"]});
    /// A classification.
    Sensitivity as "classification" = json_schema!({"enum": ["public", "internal", "confidential", "secret"]});
    /// An operation of the store.
    Operation as "memory_operation" = json_schema!({"enum": ["read", "list", "write", "delete"]});
    /// What was done with a secret.
    Use as "secret_operation" = json_schema!({"enum": ["inject", "reveal", "write", "delete"]});
    /// How somebody shows who they are.
    Method as "authentication_method" = json_schema!({"enum": ["none", "local", "api_key", "token", "certificate", "signature", "persona"]});
    /// How soon somebody should look.
    Urgency as "severity" = json_schema!({"enum": ["info", "low", "medium", "high", "critical"]});
    /// What became of something.
    Change as "lifecycle_change" = json_schema!({"enum": ["started", "stopped", "admitted", "withdrawn", "key_rotated"]});
}
