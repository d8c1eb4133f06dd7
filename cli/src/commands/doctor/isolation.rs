//! What boxes are kept in: the default, and each tier that this machine can or cannot enforce.

use domain::IsolationTier;

use crate::render::doctor::{Check, Verdict};

/// The tiers that there are backends for.
pub const TIERS: [IsolationTier; 3] =
    [IsolationTier::Process, IsolationTier::Sandbox, IsolationTier::Container];

/// One line for the default, then one for each tier. `found` tells of a tier what enforces it here (empty when there is
/// nothing to tell), or why it is not to be had and what to do.
pub fn checks(
    default: IsolationTier,
    asked_for: &[IsolationTier],
    found: impl Fn(IsolationTier) -> Result<String, String>,
) -> Vec<Check> {
    let found: Vec<_> = TIERS.into_iter().map(|tier| (tier, found(tier))).collect();
    let enforced = found.iter().any(|(tier, found)| *tier == default && found.is_ok());
    let mut checks = vec![of_default(default, enforced)];
    checks.extend(found.into_iter().map(|(tier, found)| {
        let offered = tier == default || asked_for.contains(&tier);
        let unasked = if offered { "" } else { "; tasks may not ask for it (`compute.tiers`)" };
        let (status, detail) = match found {
            Ok(by) if by.is_empty() => (Verdict::Ok, format!("{}{unasked}", tier.explain())),
            Ok(by) => (Verdict::Ok, format!("{}{unasked}; by {by}", tier.explain())),
            Err(why) if offered => (Verdict::Warn, format!("not to be had here: {why}")),
            Err(why) => (Verdict::Ok, format!("not to be had here: {why}{unasked}")),
        };
        Check { id: tier.as_str(), status, detail, fix: None }
    }));
    checks
}

fn of_default(default: IsolationTier, enforced: bool) -> Check {
    let name = default.as_str();
    let detail = format!("`{name}` unless a task asks for another: {}", default.explain());
    let (status, fix) = match default {
        _ if !enforced => {
            let fix =
                format!("Do what the line of {name} says, or choose another tier with `compute.isolation`.");
            (Verdict::Fail, Some(fix))
        }
        IsolationTier::Process => {
            let fix = "Give it only repositories and tasks that you would run yourself, or choose another tier with \
                       `compute.isolation`.";
            (Verdict::Warn, Some(fix.into()))
        }
        IsolationTier::Sandbox | IsolationTier::Container | IsolationTier::Microvm => (Verdict::Ok, None),
    };
    Check { id: "isolation", status, detail, fix }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{doctor::doctor, sample};

    fn page(default: IsolationTier, asked_for: &[IsolationTier], missing: &[IsolationTier]) -> String {
        let found = |tier: IsolationTier| match tier {
            tier if missing.contains(&tier) => Err("something is missing: install it".to_owned()),
            IsolationTier::Container => {
                Ok("Podman 5.4.0, rootless, at /run/user/1000/podman/podman.sock".into())
            }
            IsolationTier::Process | IsolationTier::Sandbox | IsolationTier::Microvm => Ok(String::new()),
        };
        doctor(&checks(default, asked_for, found), &sample::view())
    }

    #[test]
    fn every_tier_is_told() {
        insta::assert_snapshot!(page(IsolationTier::Sandbox, &TIERS, &[]));
    }

    #[test]
    fn no_isolation_is_a_warning() {
        let missing = [IsolationTier::Sandbox, IsolationTier::Container];
        insta::assert_snapshot!(page(IsolationTier::Process, &[IsolationTier::Sandbox], &missing));
    }

    #[test]
    fn a_default_that_is_not_to_be_had_fails() {
        insta::assert_snapshot!(page(IsolationTier::Container, &[], &[IsolationTier::Container]));
    }
}
