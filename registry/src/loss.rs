//! Features that callers can read today and that a new version of the definitions removes.
//!
//! Removing a feature is a valid change, but programs that read it fail as soon as it is applied. So `apply` lists first what
//! services will no longer return.

use std::collections::BTreeMap;
use std::fmt;

use tidemark_kernel::service::ServiceColumn;
use tidemark_kernel::value::FeatureType;

use crate::repo::Repo;

/// Something that the services of the version that runs answer, and those of a new one do not, or as another type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A whole service.
    Service {
        /// Its name.
        service: String,
    },
    /// A value of a service's answers, windowed or derived.
    Feature {
        /// The service.
        service: String,
        /// The name of the value, as outputs spell it.
        feature: String,
    },
    /// A value that gets another type.
    Type {
        /// The service.
        service: String,
        /// The name of the value, as outputs spell it.
        feature: String,
        /// Its type so far.
        was: FeatureType,
        /// Its type in the new version.
        is: FeatureType,
    },
}

/// `user_payments.total_7d of service fraud`.
impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { service } => write!(f, "service {service}"),
            Self::Feature { service, feature } => write!(f, "{feature} of service {service}"),
            Self::Type { service, feature, was, is } => {
                write!(f, "{feature} of service {service} as {was}: it becomes {is}")
            }
        }
    }
}

/// What the services of `old` answer and those of `new` do not: by service, in the order of its answers.
///
/// Views and features that no service uses are not listed.
#[must_use]
pub fn losses(old: &Repo, new: &Repo) -> Vec<Loss> {
    let lost = old.services.iter().flat_map(|(service, was)| {
        let service = service.clone();
        let Some(is) = new.services.get(&service) else { return vec![Loss::Service { service }] };
        let is: BTreeMap<String, FeatureType> = is.columns().map(|column| (column.name, column.ty)).collect();
        let lost = was.columns().filter_map(|ServiceColumn { name: feature, ty: was }| {
            let service = service.clone();
            match is.get(&feature) {
                None => Some(Loss::Feature { service, feature }),
                Some(is) if *is != was => Some(Loss::Type { service, feature, was, is: *is }),
                Some(_) => None,
            }
        });
        lost.collect()
    });
    lost.collect()
}
