//! From method and path to what the client wants.

use crate::code::Code;

/// What the client wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `GET /`
    Describe,
    /// `POST /links`
    Shorten,
    /// `GET /<code>`: go there, and count it.
    Follow(Code),
    /// `HEAD /<code>`: see where it goes. Link checkers and previews do this, so it does not count.
    Peek(Code),
    /// `GET /<code>/stats`
    Stats(Code),
}

/// Why there is no route.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unrouted {
    /// Nothing is ever at this path.
    UnknownPath,
    /// Something is, for other methods: `allow` lists them as the `Allow` field does.
    MethodNotAllowed {
        /// Methods of this path, separated by commas.
        allow: &'static str,
    },
}

const READ: &str = "GET, HEAD";
const WRITE: &str = "POST";

/// Finds the route of `method` and `path`, whose query, if any, says nothing to us.
///
/// # Errors
///
/// See [`Unrouted`].
pub(crate) fn find(method: &str, path_with_query: &str) -> Result<Route, Unrouted> {
    let path = path_with_query
        .split_once('?')
        .map_or(path_with_query, |(path, _)| path);
    let path = path.strip_prefix('/').ok_or(Unrouted::UnknownPath)?;
    if path == "links" {
        return match method {
            "POST" => Ok(Route::Shorten),
            _ => Err(Unrouted::MethodNotAllowed { allow: WRITE }),
        };
    }
    // A HEAD is a GET whose body the server leaves out.
    let route = match path.split_once('/') {
        None if path.is_empty() => Route::Describe,
        None => {
            let code = Code::parse(path).map_err(|_| Unrouted::UnknownPath)?;
            match method {
                "HEAD" => Route::Peek(code),
                _ => Route::Follow(code),
            }
        }
        Some((code, "stats")) => {
            Route::Stats(Code::parse(code).map_err(|_| Unrouted::UnknownPath)?)
        }
        Some(_) => return Err(Unrouted::UnknownPath),
    };
    match method {
        "GET" | "HEAD" => Ok(route),
        _ => Err(Unrouted::MethodNotAllowed { allow: READ }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Code {
        Code::parse(text).expect("the test uses valid codes")
    }

    #[test]
    fn each_path_has_its_route() {
        assert_eq!(find("GET", "/"), Ok(Route::Describe));
        assert_eq!(find("GET", "/?utm=1"), Ok(Route::Describe));
        assert_eq!(find("POST", "/links"), Ok(Route::Shorten));
        assert_eq!(find("GET", "/abc1234"), Ok(Route::Follow(code("abc1234"))));
        assert_eq!(find("GET", "/abc?x=/y"), Ok(Route::Follow(code("abc"))));
        assert_eq!(find("HEAD", "/abc1234"), Ok(Route::Peek(code("abc1234"))));
        assert_eq!(find("GET", "/abc/stats"), Ok(Route::Stats(code("abc"))));
    }

    #[test]
    fn a_wrong_method_is_told_the_right_ones() {
        let read = Err(Unrouted::MethodNotAllowed { allow: "GET, HEAD" });
        assert_eq!(find("POST", "/"), read);
        assert_eq!(find("DELETE", "/abc"), read);
        assert_eq!(find("PUT", "/abc/stats"), read);
        let write = Err(Unrouted::MethodNotAllowed { allow: "POST" });
        assert_eq!(find("GET", "/links"), write);
        assert_eq!(find("post", "/links"), write);
    }

    #[test]
    fn other_paths_lead_nowhere() {
        for path in [
            "",
            "*",
            "/a.b",
            "//",
            "/abc/",
            "/abc/other",
            "/links/stats",
            "/abc/stats/x",
        ] {
            assert_eq!(find("GET", path), Err(Unrouted::UnknownPath), "{path}");
        }
    }
}
