//! From method and path to what the client wants.

use crate::request;

/// What the client wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// `POST /orders`
    Place,
    /// `GET /orders?…`: a page, by its query.
    List(&'a str),
    /// `GET /orders/<id>`
    Find(i64),
    /// `POST /stock`
    Restock,
    /// `GET /stock/<item>`
    Stock(String),
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

/// Finds the route.
///
/// # Errors
///
/// See [`Unrouted`].
pub(crate) fn find<'a>(method: &str, path_with_query: &'a str) -> Result<Route<'a>, Unrouted> {
    let (path, query) = path_with_query
        .split_once('?')
        .unwrap_or((path_with_query, ""));
    // A HEAD is a GET whose body the server leaves out.
    let read = matches!(method, "GET" | "HEAD");
    let allow = |allow| Err(Unrouted::MethodNotAllowed { allow });
    match path {
        "/orders" if read => Ok(Route::List(query)),
        "/orders" if method == "POST" => Ok(Route::Place),
        "/orders" => allow("GET, HEAD, POST"),
        "/stock" if method == "POST" => Ok(Route::Restock),
        "/stock" => allow("POST"),
        path => {
            let route = if let Some(id) = path.strip_prefix("/orders/") {
                let digits = id.bytes().all(|byte| byte.is_ascii_digit());
                id.parse().ok().filter(|_| digits).map(Route::Find)
            } else {
                let item = path
                    .strip_prefix("/stock/")
                    .filter(|item| !item.contains('/'));
                item.and_then(request::item).map(Route::Stock)
            };
            match route {
                Some(route) if read => Ok(route),
                Some(_) => allow("GET, HEAD"),
                None => Err(Unrouted::UnknownPath),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_route() {
        assert_eq!(find("POST", "/orders"), Ok(Route::Place));
        assert_eq!(find("GET", "/orders"), Ok(Route::List("")));
        assert_eq!(find("GET", "/orders?after=1"), Ok(Route::List("after=1")));
        assert_eq!(find("HEAD", "/orders/7"), Ok(Route::Find(7)));
        assert_eq!(find("POST", "/stock?x"), Ok(Route::Restock));
        assert_eq!(
            find("GET", "/stock/a%2Fb"),
            Ok(Route::Stock("a/b".to_owned()))
        );
    }

    #[test]
    fn a_wrong_method_is_told_the_right_ones() {
        for (method, path, allow) in [
            ("PUT", "/orders", "GET, HEAD, POST"),
            ("POST", "/orders/1", "GET, HEAD"),
            ("GET", "/stock", "POST"),
            ("DELETE", "/stock/tea", "GET, HEAD"),
        ] {
            assert_eq!(
                find(method, path),
                Err(Unrouted::MethodNotAllowed { allow })
            );
        }
    }

    #[test]
    fn other_paths_lead_nowhere() {
        for path in [
            "",
            "/",
            "/order",
            "/orders/",
            "/orders/x",
            "/orders/-1",
            "/orders/+1",
            "/orders/1/2",
            "/orders/99999999999999999999",
            "/stock/",
            "/stock/a/b",
            "/stock/%",
        ] {
            assert_eq!(find("GET", path), Err(Unrouted::UnknownPath), "{path}");
        }
    }
}
