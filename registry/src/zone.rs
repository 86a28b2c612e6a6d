//! Time zones, by their names in the IANA database.

use tidemark_expr::closest;
use tidemark_kernel::time::Zone;

use crate::problem::Problem;
use crate::shape::Reading;
use crate::tree::Scalar;

/// The zone that a text names; a name that is none is reported.
pub(crate) fn read(text: &Scalar, reading: &mut Reading<'_>) -> Option<Zone> {
    let zone = Zone::named(&text.value);
    if zone.is_none() {
        let problem = Problem::error(text.place, format!("unknown time zone `{}`", text.value));
        reading.report(problem.help(help(&text.value)));
    }
    zone
}

/// What to write instead of a name that is none.
fn help(name: &str) -> String {
    let is = |known: &&str| {
        let city = known.rsplit('/').next().unwrap_or(known);
        known.eq_ignore_ascii_case(name) || city.eq_ignore_ascii_case(&name.replace(' ', "_"))
    };
    let near = Zone::names().find(is).or_else(|| closest(name, Zone::names()));
    let none = || "write a name of the IANA database, such as `Europe/Berlin` or `UTC`".to_owned();
    near.map_or_else(none, |near| format!("did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_that_is_meant_is_named() {
        assert_eq!(help("berlin"), "did you mean `Europe/Berlin`?");
        assert_eq!(help("europe/berlin"), "did you mean `Europe/Berlin`?");
        assert_eq!(help("new york"), "did you mean `America/New_York`?");
        assert_eq!(help("Europe/Berlln"), "did you mean `Europe/Berlin`?");
        assert!(help("+01:00").starts_with("write a name of the IANA database"));
    }
}
