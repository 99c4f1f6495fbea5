//! What stands in the macro call.

use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Ident, LitBool, LitStr, Token, braced, bracketed};

/// `{ path: ["dir", …], interfaces: ["ns:pkg/name@version", …], component: true }`
pub(crate) struct Input {
    /// Directories or files of WIT, relative to the manifest.
    pub(crate) paths: Vec<String>,
    /// Names of interfaces as the WIT has them, with version.
    pub(crate) interfaces: Vec<String>,
    /// Whether the types are those of components, too. No, where it is not given.
    pub(crate) component: bool,
}

impl Parse for Input {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let body;
        braced!(body in input);
        let (mut paths, mut interfaces, mut component) = (None, None, None);
        while !body.is_empty() {
            let key: Ident = body.parse()?;
            body.parse::<Token![:]>()?;
            let twice = match &*key.to_string() {
                "path" => paths.replace(strings(&body)?).is_some(),
                "interfaces" => interfaces.replace(strings(&body)?).is_some(),
                "component" => component.replace(body.parse::<LitBool>()?.value).is_some(),
                other => {
                    let message =
                        format!("`{other}` is neither `path`, `interfaces` nor `component`");
                    return Err(syn::Error::new(key.span(), message));
                }
            };
            if twice {
                return Err(syn::Error::new(key.span(), format!("`{key}` stands twice")));
            }
            if !body.is_empty() {
                body.parse::<Token![,]>()?;
            }
        }
        let given = |list: Option<Vec<String>>, key: &str| match list {
            Some(list) if !list.is_empty() => Ok(list),
            _ => Err(input.error(format!("`{key}: [\"…\"]` is missing"))),
        };
        Ok(Self {
            paths: given(paths, "path")?,
            interfaces: given(interfaces, "interfaces")?,
            component: component.unwrap_or(false),
        })
    }
}

fn strings(input: ParseStream<'_>) -> syn::Result<Vec<String>> {
    if input.peek(LitStr) {
        return Ok(vec![input.parse::<LitStr>()?.value()]);
    }
    let list;
    bracketed!(list in input);
    let list = Punctuated::<LitStr, Token![,]>::parse_terminated(&list)?;
    Ok(list.iter().map(LitStr::value).collect())
}
