//! `interfaces!`: from WIT interfaces to typed Rust, for those who serve them and for those who call them.
//!
//! The data flows in one direction: [`input`] reads what stands in the macro call, [`package`] reads the WIT files it
//! names and picks the interfaces, [`shape`] reduces functions to the structure whose hash invocations carry, and
//! [`types`] and [`interface`] write the Rust: types with the bytes of `trellis_protocol::value`, a trait to implement,
//! a dispatch from invocations to it, and a client. [`names`] turns WIT's names into Rust's.
//!
//! What the generated code shares lives in `trellis_provider_sdk`, so little is generated and little is compiled twice.

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
/// ```ignore
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
