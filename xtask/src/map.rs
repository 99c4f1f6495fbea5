//! `ARCHITECTURE.md` is a map, and each of its invariants names the tests that hold it. A name without a test is a lie.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use crate::project::Project;

    /// Texts of all sources below a directory, one behind the other.
    fn sources(directory: &Path, into: &mut String) {
        for entry in fs::read_dir(directory).expect("a directory of the workspace") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "target") {
                    sources(&path, into);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push_str(&fs::read_to_string(&path).expect("a source is UTF-8"));
            }
        }
    }

    #[test]
    fn each_invariant_names_tests_that_exist() {
        let project = Project::find().expect("the workspace");
        let map = fs::read_to_string(project.root().join("ARCHITECTURE.md")).expect("the map");
        let invariants = map
            .split("## Invariants")
            .nth(1)
            .and_then(|rest| rest.split("\n## ").next())
            .expect("a section of invariants");
        let mut text = String::new();
        for room in ["interfaces", "host", "providers", "lattice-tests"] {
            sources(&project.root().join(room), &mut text);
        }
        let names: Vec<_> = invariants
            .split('`')
            .skip(1)
            .step_by(2)
            .map(|name| name.trim_start_matches("lt:").trim())
            .filter(|name| !name.is_empty())
            .collect();
        assert!(names.len() > 20, "{names:?}");
        for name in names {
            assert!(
                text.contains(&format!("fn {name}(")),
                "no test is called {name}"
            );
        }
    }
}
