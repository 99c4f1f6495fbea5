//! Types that are those of components, too: what is added to a definition so that wasmtime reads and writes it.
//!
//! One type on both ways saves a conversion for each value. The one difference is `list<u8>`: wasmtime knows `Vec<u8>`,
//! which serde is told to write as the encoding's `ByteList`. Signatures keep `ByteList`; what a component passes there
//! is bytes alone, and converted where it is bound.

use proc_macro2::TokenStream;
use quote::quote;
use wit_parser::{Type, TypeDefKind};

use crate::package::Package;
use crate::types::{is_u8, may_be_nil, owned};

/// What stands before a definition.
pub(crate) fn definition(
    package: &Package,
    name: &str,
    kind: &TypeDefKind,
) -> Result<TokenStream, String> {
    if !package.component {
        return Ok(quote!());
    }
    let style = match kind {
        TypeDefKind::Record(record) => {
            record
                .fields
                .iter()
                .try_for_each(|field| check(package, name, &field.ty))?;
            quote!(#[component(record)])
        }
        TypeDefKind::Variant(variant) => {
            variant
                .cases
                .iter()
                .filter_map(|case| case.ty.as_ref())
                .try_for_each(|ty| check(package, name, ty))?;
            quote!(#[component(variant)])
        }
        TypeDefKind::Enum(enumeration) => match enumeration.cases.len() {
            0..=0x100 => quote!(#[component(enum)] #[repr(u8)]),
            _ => quote!(#[component(enum)] #[repr(u16)]),
        },
        TypeDefKind::Flags(_) => {
            return Err(format!("flags `{name}` cannot be those of a component"));
        }
        // An alias is what it stands for, and a handle is a number only here.
        _ => return Ok(quote!()),
    };
    let wasmtime = quote!(::wasmtime::component);
    Ok(quote! {
        #[derive(#wasmtime::ComponentType, #wasmtime::Lift, #wasmtime::Lower)]
        #style
    })
}

/// Refuses what has another form here than wasmtime's.
fn check(package: &Package, name: &str, ty: &Type) -> Result<(), String> {
    let Type::Id(id) = ty else { return Ok(()) };
    let check = |ty: &Type| check(package, name, ty);
    match &package.resolve.types[*id].kind {
        TypeDefKind::Option(ty) if may_be_nil(package, ty) => Err(format!(
            "type `{name}` has an option of an option, which cannot be that of a component"
        )),
        TypeDefKind::Handle(_) | TypeDefKind::Resource => Err(format!(
            "type `{name}` has a handle, which cannot be that of a component"
        )),
        TypeDefKind::Type(ty) | TypeDefKind::List(ty) | TypeDefKind::Option(ty) => check(ty),
        TypeDefKind::Tuple(tuple) => tuple.types.iter().try_for_each(check),
        TypeDefKind::Result(result) => [&result.ok, &result.err]
            .into_iter()
            .flatten()
            .try_for_each(check),
        // Others have definitions of their own.
        _ => Ok(()),
    }
}

/// The name of a field or case, for wasmtime.
pub(crate) fn name(package: &Package, wit: &str) -> TokenStream {
    match package.component {
        true => quote!(#[component(name = #wit)]),
        false => quote!(),
    }
}

/// The type of a field or payload, and how serde is to write it.
pub(crate) fn held(package: &Package, ty: &Type) -> (TokenStream, TokenStream) {
    if !package.component || !has_bytes(package, ty) {
        return (quote!(), owned(package, ty));
    }
    let (plain, how) = plain(package, ty);
    let with = quote!(::trellis_provider_sdk::__macro::As::<#how>).to_string();
    (quote!(#[serde(with = #with)]), plain)
}

/// Whether there are bytes in a type, outside of definitions of its own.
fn has_bytes(package: &Package, ty: &Type) -> bool {
    let Type::Id(id) = ty else { return false };
    let bytes = |ty: &Type| has_bytes(package, ty);
    match &package.resolve.types[*id].kind {
        TypeDefKind::List(ty) => is_u8(package, ty) || bytes(ty),
        TypeDefKind::Type(ty) | TypeDefKind::Option(ty) => bytes(ty),
        TypeDefKind::Tuple(tuple) => tuple.types.iter().any(bytes),
        TypeDefKind::Result(result) => [&result.ok, &result.err].into_iter().flatten().any(bytes),
        _ => false,
    }
}

/// A type with plain bytes, without aliases, and how it is written.
fn plain(package: &Package, ty: &Type) -> (TokenStream, TokenStream) {
    let rt = quote!(::trellis_provider_sdk::__macro);
    let same = |ty: TokenStream| (ty, quote!(#rt::Same));
    let (true, Type::Id(id)) = (has_bytes(package, ty), ty) else {
        return same(owned(package, ty));
    };
    let payload = |ty: &Option<Type>| match ty {
        Some(ty) => plain(package, ty),
        None => same(quote!(())),
    };
    match &package.resolve.types[*id].kind {
        TypeDefKind::Type(ty) => plain(package, ty),
        TypeDefKind::List(ty) if is_u8(package, ty) => (
            quote!(::std::vec::Vec<u8>),
            quote!(#rt::protocol::value::ByteList),
        ),
        TypeDefKind::List(ty) => {
            let (ty, how) = plain(package, ty);
            (quote!(::std::vec::Vec<#ty>), quote!(::std::vec::Vec<#how>))
        }
        TypeDefKind::Option(ty) => {
            let (ty, how) = plain(package, ty);
            let option = quote!(::core::option::Option);
            (quote!(#option<#ty>), quote!(#option<#how>))
        }
        TypeDefKind::Result(result) => {
            let ((ok, ok_how), (err, err_how)) = (payload(&result.ok), payload(&result.err));
            let result = quote!(::core::result::Result);
            (
                quote!(#result<#ok, #err>),
                quote!(#result<#ok_how, #err_how>),
            )
        }
        TypeDefKind::Tuple(tuple) => {
            let (types, hows): (Vec<_>, Vec<_>) =
                tuple.types.iter().map(|ty| plain(package, ty)).unzip();
            (quote!((#(#types,)*)), quote!((#(#hows,)*)))
        }
        // Bytes are in nothing else.
        _ => same(owned(package, ty)),
    }
}
