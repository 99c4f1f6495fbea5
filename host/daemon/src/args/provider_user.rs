//! Whether providers can run as the user that somebody chose. A host would start them all the same, as its own user and
//! with less between them and its files, which is not what was asked for.

use std::fs;

/// Where the system keeps its users.
const USERS: &str = "/etc/passwd";

/// What stands against a user for providers. Nothing where the host is not root: it changes no user then.
pub fn unfit_user(name: &str) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    // Numbers need no list of users, which small images lack.
    let users = fs::read_to_string(USERS).unwrap_or_default();
    fault(name, &users)
}

fn fault(name: &str, users: &str) -> Option<String> {
    let (first, second) = name.split_once(':').unwrap_or((name, name));
    let uid = match (first.parse::<u32>(), second.parse::<u32>()) {
        (Ok(uid), Ok(_)) => Some(uid),
        _ => users.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name))
                .then(|| fields.nth(1)?.parse().ok())
                .flatten()
        }),
    };
    match uid {
        Some(0) => Some(format!(
            "{name:?} is root, as whom no provider is to run; name another user"
        )),
        Some(_) => None,
        None => Some(format!(
            "this system has no user {name:?}; name one of {USERS}, or give its number, or UID:GID"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\nhalf\n";

    #[test]
    fn users_of_the_system_and_numbers_are_fit() {
        for name in ["nobody", "1000", "1000:1000"] {
            assert_eq!(fault(name, SOME), None, "{name}");
        }
        assert_eq!(fault("65534", ""), None);
    }

    #[test]
    fn root_and_users_that_are_not_there_are_unfit() {
        for name in ["root", "0", "0:1000"] {
            assert!(fault(name, SOME).is_some_and(|fault| fault.contains("is root")));
        }
        for name in ["nosuch", "", "half", "nobody:nobody", "-1"] {
            assert!(
                fault(name, SOME).is_some_and(|fault| fault.contains("no user")),
                "{name}"
            );
        }
    }
}
