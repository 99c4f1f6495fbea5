//! `interfaces!`: from WIT interfaces to typed Rust, for those who serve them and for those who call them.
//!
//! The data flows in one direction: [`input`] reads what stands in the macro call, [`package`] reads the WIT files it
//! names and picks the interfaces, [`shape`] reduces functions to the structure whose hash invocations carry, and
//! [`types`] and [`interface`] write the Rust: types with the bytes of `trellis_protocol::value`, a trait to implement,
//! a dispatch from invocations to it, and a client. [`component`] makes the types those of components, too, and [`names`]
//! turns WIT's names into Rust's.
//!
//! What the generated code shares lives in `trellis_provider_sdk`, so little is generated and little is compiled twice.

mod component;
mod input;
mod interface;
mod names;
mod package;
mod shape;
mod types;

use proc_macro::TokenStream;
use proc_macro2::Span;
use quote::quote;

/// Turns WIT interfaces into modules of typed Rust.
///
/// ```text
/// trellis_provider_sdk::interfaces!({
///     path: ["../../interfaces/wit/wasi-keyvalue"],
///     interfaces: ["wasi:keyvalue/store@0.2.0-draft", "wasi:keyvalue/atomics@0.2.0-draft"],
/// });
/// ```
///
/// `path` names directories or files of WIT, relative to the crate's manifest, each after those it depends on. Each
/// interface becomes a module named as itself (`store`), beside modules of types for the interfaces that it uses:
///
/// - the types, as `trellis_protocol::value` encodes them. Resources are handles (`Bucket(u64)`). A type that one
///   interface takes from another by `use` is one Rust type.
/// - `INTERFACE`, its full name; `FUNCTIONS`, its functions with their type hashes; `matches(&str)`, whether a name is
///   this interface in a version of the same minor.
/// - `trait Store`: what a provider implements. Each function has a method `open(&self, call, …)`; methods of resources
///   carry the resource's name, `bucket_get(&self, call, self_, key)`; releasing a handle is `drop_bucket`. It gives
///   back the WIT result inside `Result<_, Refusal>`.
/// - `dispatch(&provider, &call)`: from an invocation to the trait and back to bytes. It refuses unknown functions, other
///   types and ill-formed parameters before the provider sees anything.
/// - `Client(caller)`: calls the interface through a `trellis_provider_sdk::interface::Caller`.
///
/// With `component: true` the types are `ComponentType`, `Lift` and `Lower` as well, of a crate that the caller has as
/// `wasmtime`: one type is read from a component and written to the lattice. In records and variants `list<u8>` is then
/// `Vec<u8>`, with the same bytes; flags and options of options have no such types, and are a compile-time error.
///
/// Streams, futures and handles of resources of interfaces that are not listed cannot be carried, and are a compile-time
/// error that names the function (D18).
#[proc_macro]
pub fn interfaces(tokens: TokenStream) -> TokenStream {
    match expand(tokens.into()) {
        Ok(code) => code.into(),
        Err(message) => {
            let message = format!("interfaces!: {message}");
            syn::Error::new(Span::call_site(), message)
                .to_compile_error()
                .into()
        }
    }
}

fn expand(tokens: proc_macro2::TokenStream) -> Result<proc_macro2::TokenStream, String> {
    let input: input::Input = syn::parse2(tokens).map_err(|error| error.to_string())?;
    let package = package::Package::load(&input)?;
    let modules = package
        .modules()
        .iter()
        .map(|module| interface::module(&package, module))
        .collect::<Result<Vec<_>, _>>()?;
    let files = package.files();
    Ok(quote! {
        // The compiler then knows to expand the macro again when one of these changes.
        #(const _: &[u8] = ::core::include_bytes!(#files);)*
        #(#modules)*
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &str, interface: &str) -> String {
        match expand(quote!({ path: [#path], interfaces: [#interface] })) {
            Ok(code) => panic!("expanded to {code}"),
            Err(message) => message,
        }
    }

    #[test]
    fn a_stream_is_refused_with_the_functions_name() {
        let message = refusal("tests/wit/streams.wit", "test:streams/source");
        assert!(
            message.contains("function `read` of `test:streams/source`"),
            "{message}"
        );
        assert!(message.contains("a stream cannot travel"), "{message}");
    }

    #[test]
    fn a_handle_of_an_interface_that_is_not_listed_is_refused_with_its_name() {
        let message = refusal("tests/wit/foreign.wit", "test:foreign/reader");
        assert!(message.contains("function `take`"), "{message}");
        assert!(
            message.contains("resource `input` of `test:foreign/io`"),
            "{message}"
        );
        let harmless =
            quote!({ path: "tests/wit/foreign.wit", interfaces: "test:foreign/types-only" });
        assert!(expand(harmless).is_ok());
        let both = quote!({
            path: "tests/wit/foreign.wit",
            interfaces: ["test:foreign/reader", "test:foreign/io"],
        });
        assert!(expand(both).is_ok());
    }

    #[test]
    fn what_has_no_type_of_components_is_refused_with_its_name() {
        let of_components = quote!({
            path: "tests/wit/names.wit",
            interfaces: "test:names/client@1.2.3",
            component: true,
        });
        let message = expand(of_components).map(|code| code.to_string());
        let message = message.expect_err("flags have no such type");
        assert!(message.contains("flags `wide`"), "{message}");
        let options = quote!({
            path: "tests/wit/options.wit",
            interfaces: "test:options/deep",
            component: true,
        });
        let message = expand(options).map(|code| code.to_string());
        let message = message.expect_err("options of options have no such type");
        assert!(message.contains("type `nested`"), "{message}");
    }

    #[test]
    fn what_is_not_there_is_named_beside_what_is() {
        let message = refusal("tests/wit/streams.wit", "test:streams/sink");
        assert!(message.contains("`test:streams/sink`"), "{message}");
        assert!(message.contains("test:streams/source"), "{message}");
        assert!(refusal("tests/wit/nowhere.wit", "a:b/c").contains("nowhere.wit"));
    }

    #[test]
    fn a_call_of_another_form_is_refused() {
        for call in [
            quote!(),
            quote!({}),
            quote!({ path: [] , interfaces: ["a:b/c"] }),
            quote!({ path: "x" }),
            quote!({ path: "x", path: "y", interfaces: "z" }),
            quote!({ paths: "x", interfaces: "z" }),
            quote!({ path: "x", interfaces: "z", component: "yes" }),
        ] {
            assert!(expand(call).is_err());
        }
    }
}
