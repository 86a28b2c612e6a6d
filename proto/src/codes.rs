//! The code of each [`ErrorKind`] in each protocol: one table for lookups and pushes.

use tidemark_kernel::ErrorKind;
use tonic::Code;

/// The code of a gRPC call that failed.
#[must_use]
pub const fn grpc_code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::Unknown => Code::NotFound,
        ErrorKind::Conflict => Code::AlreadyExists,
        ErrorKind::TooLarge | ErrorKind::Overloaded | ErrorKind::OutOfSpace => Code::ResourceExhausted,
        ErrorKind::TooEarly => Code::OutOfRange,
        ErrorKind::NotReady | ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Environment => Code::FailedPrecondition,
        ErrorKind::Damaged => Code::DataLoss,
        ErrorKind::Internal => Code::Internal,
    }
}

/// The status of an HTTP request that failed.
#[must_use]
pub const fn http_status(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::Invalid => 400,
        ErrorKind::Unknown => 404,
        // draft-ietf-httpapi-idempotency-key-header asks for 422 where a key is used with another body.
        ErrorKind::Conflict | ErrorKind::TooEarly => 422,
        ErrorKind::TooLarge => 413,
        ErrorKind::Overloaded => 429,
        ErrorKind::NotReady | ErrorKind::Unavailable | ErrorKind::Environment => 503,
        ErrorKind::OutOfSpace => 507,
        ErrorKind::Damaged | ErrorKind::Internal => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the caller can change in its request.
    const OF_THE_CALLER: [ErrorKind; 5] = [
        ErrorKind::Invalid,
        ErrorKind::Unknown,
        ErrorKind::Conflict,
        ErrorKind::TooLarge,
        ErrorKind::TooEarly,
    ];

    /// What passes without a change of the request.
    const PASSING: [ErrorKind; 3] = [ErrorKind::NotReady, ErrorKind::Overloaded, ErrorKind::Unavailable];

    #[test]
    fn the_status_says_who_has_to_act() {
        for kind in ErrorKind::ALL {
            // An overloaded server asks the caller to slow down.
            let of_the_caller = OF_THE_CALLER.contains(&kind) || kind == ErrorKind::Overloaded;
            let class = if of_the_caller { 4 } else { 5 };
            assert_eq!(http_status(kind) / 100, class, "{kind:?}");
        }
    }

    #[test]
    fn what_passes_is_what_clients_try_again() {
        for kind in ErrorKind::ALL {
            let (status, code) = (http_status(kind), grpc_code(kind));
            if PASSING.contains(&kind) {
                assert!(matches!(status, 429 | 503), "{kind:?} is {status}");
                assert!(matches!(code, Code::Unavailable | Code::ResourceExhausted), "{kind:?} is {code:?}");
            } else {
                // Clients of gRPC try UNAVAILABLE again on their own, and nothing else.
                assert_ne!(code, Code::Unavailable, "{kind:?}");
            }
            if OF_THE_CALLER.contains(&kind) {
                assert!(!matches!(status, 429 | 503), "the same {kind:?} request cannot succeed");
            }
        }
    }

    #[test]
    fn the_page_of_errors_has_these_codes() {
        let page = include_str!("../../docs/errors.md");
        for kind in ErrorKind::ALL {
            let row = page.lines().find(|line| line.starts_with(&format!("| `{}` |", kind.name())));
            let cells: Vec<&str> = row.expect("a row of its own").split('|').map(str::trim).collect();
            let code = cells[5].trim_matches('`').replace('_', "").to_lowercase();
            assert_eq!(cells[4], http_status(kind).to_string(), "{kind:?}");
            assert_eq!(code, format!("{:?}", grpc_code(kind)).to_lowercase(), "{kind:?}");
        }
    }

    #[test]
    fn no_failure_looks_like_another_layers() {
        for kind in ErrorKind::ALL {
            // `Unknown` is what gRPC makes of a status that it does not know.
            assert!(!matches!(grpc_code(kind), Code::Ok | Code::Unknown | Code::Cancelled), "{kind:?}");
        }
    }
}
