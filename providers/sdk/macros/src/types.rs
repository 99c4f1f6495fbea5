//! WIT types as Rust types: definitions for those with a name, expressions for the rest.

use proc_macro2::TokenStream;
use quote::quote;
use wit_parser::{Docs, Handle, Type, TypeDefKind, TypeId};

use crate::component;
use crate::names;
use crate::package::{Module, Package};

/// Most names of one flags type: `trellis_protocol::value::flags::FLAGS_MAX`.
const FLAGS_MAX: usize = trellis_protocol::value::flags::FLAGS_MAX;

/// The definition of a type that has a name in the module's interface.
pub(crate) fn definition(
    package: &Package,
    module: &Module,
    name: &str,
    id: TypeId,
) -> Result<TokenStream, String> {
    let definition = &package.resolve.types[id];
    let rust = names::camel(name);
    let doc = doc(&definition.docs, || format!("The WIT type `{name}`."));
    // Checked even where no function uses it: a type that cannot travel has no place in the module.
    if !matches!(
        definition.kind,
        TypeDefKind::Resource | TypeDefKind::Type(_)
    ) {
        crate::shape::of_type(package, &Type::Id(id), 0)
            .map_err(|reason| format!("type `{name}` of `{}`: {reason}", module.full_name))?;
    }
    let derives = derives(package, &Type::Id(id));
    let component = component::definition(package, name, &definition.kind)?;
    let serde = quote!(#[serde(crate = "::trellis_provider_sdk::__macro::serde")]);
    Ok(match &definition.kind {
        TypeDefKind::Record(record) => {
            let fields = record.fields.iter().map(|field| {
                let doc = self::doc(&field.docs, || format!("The field `{}`.", field.name));
                let component = component::name(package, &field.name);
                let (name, (with, ty)) = (
                    names::snake(&field.name),
                    component::held(package, &field.ty),
                );
                quote!(#doc #component #with pub #name: #ty,)
            });
            quote! { #doc #derives #component #serde pub struct #rust { #(#fields)* } }
        }
        TypeDefKind::Variant(variant) => {
            let cases = variant.cases.iter().map(|case| {
                let doc = self::doc(&case.docs, || format!("The case `{}`.", case.name));
                let (rust, wit) = (names::camel(&case.name), &case.name);
                let component = component::name(package, wit);
                let payload = case.ty.as_ref().map(|ty| {
                    let (with, ty) = component::held(package, ty);
                    quote!((#with #ty))
                });
                quote!(#doc #component #[serde(rename = #wit)] #rust #payload,)
            });
            quote! { #doc #derives #component #serde pub enum #rust { #(#cases)* } }
        }
        TypeDefKind::Enum(enumeration) => {
            let cases = enumeration.cases.iter().map(|case| {
                let doc = self::doc(&case.docs, || format!("The case `{}`.", case.name));
                let (rust, wit) = (names::camel(&case.name), &case.name);
                let component = component::name(package, wit);
                quote!(#doc #component #[serde(rename = #wit)] #rust,)
            });
            quote! { #doc #derives #[derive(Copy)] #component #serde pub enum #rust { #(#cases)* } }
        }
        TypeDefKind::Flags(flags) => {
            let names: Vec<_> = flags
                .flags
                .iter()
                .map(|flag| (&*flag.name, &flag.docs))
                .collect();
            if names.len() > FLAGS_MAX {
                return Err(format!("flags `{name}` have more than {FLAGS_MAX} names"));
            }
            set(&rust, &doc, &names)
        }
        TypeDefKind::Resource => quote! {
            #doc
            ///
            /// This is a handle: a number that the provider gave out, good for the caller's lease.
            #derives #[derive(Copy)] #serde
            pub struct #rust(
                /// The handle's number.
                pub u64
            );
        },
        TypeDefKind::Type(Type::Id(target)) => alias(package, module, &rust, *target),
        _ => {
            let ty = anonymous(package, id);
            quote! { #doc pub type #rust = #ty; }
        }
    })
}

/// Another name for a type: a re-export, where the type is one that has constructors.
fn alias(
    package: &Package,
    module: &Module,
    rust: &proc_macro2::Ident,
    target: TypeId,
) -> TokenStream {
    let definition = &package.resolve.types[target];
    let (Some(name), Some(owner)) = (&definition.name, package.owner(target)) else {
        let ty = anonymous(package, target);
        return quote! { #[doc = "An alias."] pub type #rust = #ty; };
    };
    let path = if owner == module.id {
        quote!(self)
    } else {
        let interface = package.resolve.interfaces[owner].name.as_deref();
        let owner = names::snake(interface.unwrap_or_default());
        quote!(super::#owner)
    };
    let name = names::camel(name);
    quote! { pub use #path::#name as #rust; }
}

fn set(rust: &proc_macro2::Ident, doc: &TokenStream, names: &[(&str, &Docs)]) -> TokenStream {
    let rt = quote!(::trellis_provider_sdk::__macro);
    let wit: Vec<_> = names.iter().map(|(name, _)| *name).collect();
    let constants = names.iter().enumerate().map(|(bit, (name, docs))| {
        let doc = self::doc(docs, || format!("The flag `{name}`."));
        let constant = names::constant(name);
        quote!(#doc pub const #constant: Self = Self(1 << #bit);)
    });
    let all = match names.len() {
        0 => quote!(0),
        count => {
            let shift = 64 - count;
            quote!(u64::MAX >> #shift)
        }
    };
    quote! {
        #doc
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct #rust(u64);

        impl #rust {
            const NAMES: &'static [&'static str] = &[#(#wit),*];
            #(#constants)*

            /// No flag.
            pub const fn empty() -> Self {
                Self(0)
            }

            /// Every flag.
            pub const fn all() -> Self {
                Self(#all)
            }

            /// Whether every one of these flags is set.
            pub const fn contains(self, flags: Self) -> bool {
                self.0 & flags.0 == flags.0
            }

            /// The names of the flags that are set, in the order of their declaration.
            pub fn names(self) -> impl ::core::iter::Iterator<Item = &'static str> {
                Self::NAMES
                    .iter()
                    .enumerate()
                    .filter(move |(bit, _)| self.0 >> bit & 1 == 1)
                    .map(|(_, name)| *name)
            }

            /// The flag of this name.
            pub fn from_name(name: &str) -> ::core::option::Option<Self> {
                Self::NAMES
                    .iter()
                    .position(|candidate| *candidate == name)
                    .map(|bit| Self(1 << bit))
            }
        }

        impl ::core::ops::BitOr for #rust {
            type Output = Self;

            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }

        impl ::core::ops::BitOrAssign for #rust {
            fn bitor_assign(&mut self, other: Self) {
                self.0 |= other.0;
            }
        }

        impl ::core::fmt::Debug for #rust {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_set().entries(self.names()).finish()
            }
        }

        impl #rt::serde::Serialize for #rust {
            fn serialize<__S: #rt::serde::Serializer>(
                &self,
                serializer: __S,
            ) -> ::core::result::Result<__S::Ok, __S::Error> {
                #rt::protocol::value::flags::serialize(Self::NAMES, self.0, serializer)
            }
        }

        impl<'de> #rt::serde::Deserialize<'de> for #rust {
            fn deserialize<__D: #rt::serde::Deserializer<'de>>(
                deserializer: __D,
            ) -> ::core::result::Result<Self, __D::Error> {
                #rt::protocol::value::flags::deserialize(Self::NAMES, deserializer).map(Self)
            }
        }
    }
}

fn derives(package: &Package, ty: &Type) -> TokenStream {
    let eq = (!has_float(package, ty)).then(|| quote!(Eq, Hash,));
    let serde = quote!(::trellis_provider_sdk::__macro::serde);
    quote!(#[derive(Debug, Clone, PartialEq, #eq #serde::Serialize, #serde::Deserialize)])
}

fn has_float(package: &Package, ty: &Type) -> bool {
    let float = |ty: &Type| has_float(package, ty);
    let id = match ty {
        Type::F32 | Type::F64 => return true,
        Type::Id(id) => *id,
        _ => return false,
    };
    match &package.resolve.types[id].kind {
        TypeDefKind::Type(ty) | TypeDefKind::List(ty) | TypeDefKind::Option(ty) => float(ty),
        TypeDefKind::Result(result) => [&result.ok, &result.err].into_iter().flatten().any(float),
        TypeDefKind::Tuple(tuple) => tuple.types.iter().any(float),
        TypeDefKind::Record(record) => record.fields.iter().any(|field| float(&field.ty)),
        TypeDefKind::Variant(variant) => variant
            .cases
            .iter()
            .filter_map(|c| c.ty.as_ref())
            .any(float),
        _ => false,
    }
}

/// A type as one that owns its value.
pub(crate) fn owned(package: &Package, ty: &Type) -> TokenStream {
    match ty {
        Type::Bool => quote!(bool),
        Type::U8 => quote!(u8),
        Type::U16 => quote!(u16),
        Type::U32 => quote!(u32),
        Type::U64 => quote!(u64),
        Type::S8 => quote!(i8),
        Type::S16 => quote!(i16),
        Type::S32 => quote!(i32),
        Type::S64 => quote!(i64),
        Type::F32 => quote!(f32),
        Type::F64 => quote!(f64),
        Type::Char => quote!(char),
        Type::String => quote!(::std::string::String),
        // Refused by its shape before this is compiled.
        Type::ErrorContext => quote!(()),
        Type::Id(id) => match &package.resolve.types[*id].name {
            Some(name) => {
                let name = names::camel(name);
                quote!(#name)
            }
            None => anonymous(package, *id),
        },
    }
}

/// A type without a name, or what stands behind an alias.
fn anonymous(package: &Package, id: TypeId) -> TokenStream {
    let value = quote!(::trellis_provider_sdk::__macro::protocol::value);
    let payload = |ty: &Option<Type>| match ty {
        Some(ty) => owned(package, ty),
        None => quote!(()),
    };
    match &package.resolve.types[id].kind {
        TypeDefKind::List(ty) if is_u8(package, ty) => quote!(#value::ByteList),
        TypeDefKind::List(ty) => {
            let ty = owned(package, ty);
            quote!(::std::vec::Vec<#ty>)
        }
        TypeDefKind::Option(ty) => {
            let nested = may_be_nil(package, ty);
            let ty = owned(package, ty);
            match nested {
                true => quote!(#value::NestedOption<#ty>),
                false => quote!(::core::option::Option<#ty>),
            }
        }
        TypeDefKind::Result(result) => {
            let (ok, err) = (payload(&result.ok), payload(&result.err));
            quote!(::core::result::Result<#ok, #err>)
        }
        TypeDefKind::Tuple(tuple) => {
            let types = tuple.types.iter().map(|ty| owned(package, ty));
            quote!((#(#types,)*))
        }
        TypeDefKind::Handle(Handle::Own(resource) | Handle::Borrow(resource)) => {
            owned(package, &Type::Id(*resource))
        }
        TypeDefKind::Type(ty) => owned(package, ty),
        // Records and their like have names; what else there is, shapes refuse.
        _ => quote!(()),
    }
}

/// A parameter of a client's method: its type, and the expression that is encoded.
pub(crate) fn borrowed(
    package: &Package,
    ty: &Type,
    name: &proc_macro2::Ident,
) -> (TokenStream, TokenStream) {
    let value = quote!(::trellis_provider_sdk::__macro::protocol::value);
    match ty {
        _ if is_copy(package, ty) => (owned(package, ty), quote!(#name)),
        Type::String => (quote!(&str), quote!(#name)),
        Type::Id(id) => match &package.resolve.types[package.target(*id)].kind {
            TypeDefKind::Type(inner) => borrowed(package, inner, name),
            TypeDefKind::List(element) if is_u8(package, element) => {
                (quote!(&[u8]), quote!(#value::ByteSlice(#name)))
            }
            TypeDefKind::List(element) => {
                let element = owned(package, element);
                (quote!(&[#element]), quote!(#name))
            }
            _ => {
                let ty = owned(package, ty);
                (quote!(&#ty), quote!(#name))
            }
        },
        _ => (owned(package, ty), quote!(#name)),
    }
}

/// Whether the Rust type is `Copy`, and small enough to be handed on as such.
fn is_copy(package: &Package, ty: &Type) -> bool {
    match ty {
        Type::String => false,
        Type::Id(id) => match &package.resolve.types[package.target(*id)].kind {
            TypeDefKind::Type(ty) | TypeDefKind::Option(ty) => is_copy(package, ty),
            TypeDefKind::Enum(_)
            | TypeDefKind::Flags(_)
            | TypeDefKind::Handle(_)
            | TypeDefKind::Resource => true,
            _ => false,
        },
        _ => true,
    }
}

pub(crate) fn is_u8(package: &Package, ty: &Type) -> bool {
    match ty {
        Type::U8 => true,
        Type::Id(id) => match &package.resolve.types[package.target(*id)].kind {
            TypeDefKind::Type(ty) => is_u8(package, ty),
            _ => false,
        },
        _ => false,
    }
}

pub(crate) fn may_be_nil(package: &Package, ty: &Type) -> bool {
    // A type that has no shape was refused before; its answer does not matter.
    crate::shape::of_type(package, ty, 0).is_ok_and(|shape| shape.may_be_nil())
}

/// Doc comments of WIT as those of Rust, or a sentence instead of none.
pub(crate) fn doc(docs: &Docs, otherwise: impl FnOnce() -> String) -> TokenStream {
    let text = match &docs.contents {
        Some(text) if !text.trim().is_empty() => text.clone(),
        _ => otherwise(),
    };
    let mut fenced = false;
    let lines = text.lines().map(|line| {
        // A bare fence would make a test of Rust of what is an example in another language.
        let mut line = format!(" {line}");
        if line.trim_start().starts_with("```") {
            if !fenced && line.trim() == "```" {
                line.push_str("text");
            }
            fenced = !fenced;
        }
        line
    });
    quote!(#(#[doc = #lines])*)
}
