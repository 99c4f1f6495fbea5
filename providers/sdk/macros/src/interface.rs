//! One module for one interface: its types, and where they were asked for, its trait, dispatch and client.

use std::collections::BTreeSet;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use trellis_protocol::shape::FunctionShape;
use wit_parser::{Function, FunctionKind, Type, TypeDefKind, TypeId};

use crate::package::{Module, Package};
use crate::{names, shape, types};

/// The whole module.
pub(crate) fn module(package: &Package, module: &Module) -> Result<TokenStream, String> {
    let interface = &package.resolve.interfaces[module.id];
    let name = names::snake(&module.name);
    let full_name = &module.full_name;
    let doc = types::doc(&interface.docs, || {
        format!("The WIT interface `{full_name}`.")
    });
    let definitions = interface
        .types
        .iter()
        .map(|(name, id)| types::definition(package, module, name, *id))
        .collect::<Result<Vec<_>, _>>()?;
    let functions = match module.with_functions {
        true => functions(package, module)?,
        false => quote!(),
    };
    Ok(quote! {
        #doc
        // Who uses one half of an interface leaves the other unused, and a module may be private.
        #[allow(dead_code, unused_imports, unreachable_pub, clippy::all, clippy::pedantic)]
        pub mod #name {
            /// The interface's full name, with its version.
            pub const INTERFACE: &str = #full_name;

            #(#definitions)*
            #functions
        }
    })
}

/// A function of the interface, or the release of one of its handles.
struct Method<'a> {
    /// As operations name it.
    wit_name: String,
    rust_name: Ident,
    constant: Ident,
    doc: TokenStream,
    params: Vec<(Ident, &'a Type)>,
    result: Option<&'a Type>,
    type_hash: u64,
}

fn functions(package: &Package, module: &Module) -> Result<TokenStream, String> {
    let interface = &package.resolve.interfaces[module.id];
    let drops: Vec<_> = interface
        .types
        .iter()
        .filter(|(_, id)| matches!(package.resolve.types[**id].kind, TypeDefKind::Resource))
        .map(|(name, id)| (name, Type::Id(*id)))
        .collect();
    let mut methods = interface
        .functions
        .values()
        .map(|function| method(package, module, function))
        .collect::<Result<Vec<_>, _>>()?;
    methods.extend(drops.iter().map(|(name, resource)| drop_of(name, resource)));
    let mut seen = BTreeSet::new();
    if let Some(twice) = methods
        .iter()
        .find(|m| !seen.insert(m.rust_name.to_string()))
    {
        return Err(format!(
            "two functions of `{}` would be called `{}` in Rust",
            module.full_name, twice.rust_name
        ));
    }
    let mut taken: BTreeSet<_> = interface
        .types
        .keys()
        .map(|name| names::camel_text(name))
        .collect();
    let mut free = |mut name: String, suffix: &str| {
        while !taken.insert(name.clone()) {
            name.push_str(suffix);
        }
        Ident::new(&name, Span::call_site())
    };
    let trait_name = free(names::camel_text(&module.name), "Interface");
    let client = free("Client".to_owned(), "Proxy");
    let serving = serving(package, module, &methods, &trait_name);
    let calling = calling(package, module, &methods, &client);
    Ok(quote!(#serving #calling))
}

fn method<'a>(
    package: &'a Package,
    module: &Module,
    function: &'a Function,
) -> Result<Method<'a>, String> {
    let refuse = |reason| {
        format!(
            "function `{}` of `{}`: {reason}",
            function.name, module.full_name
        )
    };
    let shape = shape::of_function(package, function).map_err(refuse)?;
    let resource = |id: TypeId| package.resolve.types[id].name.clone().unwrap_or_default();
    let kebab = match function.kind {
        FunctionKind::Freestanding | FunctionKind::AsyncFreestanding => function.name.clone(),
        FunctionKind::Constructor(id) => format!("new-{}", resource(id)),
        FunctionKind::Method(id)
        | FunctionKind::AsyncMethod(id)
        | FunctionKind::Static(id)
        | FunctionKind::AsyncStatic(id) => format!("{}-{}", resource(id), function.item_name()),
    };
    let params = function
        .params
        .iter()
        .map(|param| match &*param.name {
            // The one name that the generated methods have themselves.
            "call" => (format_ident!("call_"), &param.ty),
            name => (names::snake(name), &param.ty),
        })
        .collect();
    Ok(Method {
        doc: types::doc(&function.docs, || {
            format!("The WIT function `{}`.", function.name)
        }),
        wit_name: function.name.clone(),
        rust_name: names::snake(&kebab),
        constant: names::constant(&kebab),
        params,
        result: function.result.as_ref(),
        type_hash: shape.type_hash(),
    })
}

fn drop_of<'a>(name: &str, resource: &'a Type) -> Method<'a> {
    let text = format!(
        " Releases a `{name}`: its holder has dropped it. Releasing one twice is no error."
    );
    let kebab = format!("drop-{name}");
    Method {
        wit_name: format!("[resource-drop]{name}"),
        rust_name: names::snake(&kebab),
        constant: names::constant(&kebab),
        doc: quote!(#[doc = #text]),
        params: vec![(format_ident!("handle"), resource)],
        result: None,
        type_hash: FunctionShape::resource_drop().type_hash(),
    }
}

impl Method<'_> {
    fn result(&self, package: &Package) -> TokenStream {
        match self.result {
            Some(ty) => types::owned(package, ty),
            None => quote!(()),
        }
    }
}

/// Constants, the trait to implement, and the way from an invocation to it.
fn serving(
    package: &Package,
    module: &Module,
    methods: &[Method<'_>],
    trait_name: &Ident,
) -> TokenStream {
    let rt = quote!(::trellis_provider_sdk::__macro);
    let full_name = &module.full_name;
    let doc = format!(" Serves `{full_name}`: one method for each of its functions.");
    let signatures = methods.iter().map(|method| {
        let (doc, name, result) = (&method.doc, &method.rust_name, method.result(package));
        let params = method.params.iter().map(|(name, ty)| {
            let ty = types::owned(package, ty);
            quote!(#name: #ty)
        });
        quote! {
            #doc
            async fn #name(
                &self,
                call: &::trellis_provider_sdk::Call,
                #(#params,)*
            ) -> ::core::result::Result<#result, ::trellis_provider_sdk::Refusal>;
        }
    });
    let constants = methods.iter().map(|method| {
        let (name, wit, hash) = (&method.constant, &method.wit_name, method.type_hash);
        let doc = format!(" Of `{wit}`.");
        quote!(#[doc = #doc] pub const #name: u64 = #hash;)
    });
    let table = methods.iter().map(|method| {
        let (name, wit) = (&method.constant, &method.wit_name);
        quote! {
            ::trellis_provider_sdk::interface::Function { name: #wit, type_hash: type_hash::#name }
        }
    });
    let arms = methods.iter().map(|method| {
        let (wit, name, constant) = (&method.wit_name, &method.rust_name, &method.constant);
        let names: Vec<_> = method.params.iter().map(|(name, _)| name).collect();
        let types: Vec<_> = method
            .params
            .iter()
            .map(|(_, ty)| types::owned(package, ty))
            .collect();
        let (pattern, params) = match names.is_empty() {
            true => (quote!(_), quote!(#rt::protocol::value::NoParams)),
            false => (quote!((#(#names,)*)), quote!((#(#types,)*))),
        };
        // A block around each arm keeps a parameter's name from hiding `provider` in the next.
        quote! {
            #wit => {
                let #pattern: #params = #rt::params(__call, type_hash::#constant)?;
                #rt::result(&__provider.#name(__call, #(#names),*).await?)
            }
        }
    });
    quote! {
        /// Structural hashes of the functions' types.
        pub mod type_hash {
            #(#constants)*
        }

        /// The functions, as operations name them, with their type hashes.
        pub const FUNCTIONS: &[::trellis_provider_sdk::interface::Function] = &[#(#table),*];

        /// Whether a name is this interface, without a version or in one of the same minor.
        pub fn matches(interface: &str) -> bool {
            ::trellis_provider_sdk::interface::is_compatible(INTERFACE, interface)
        }

        #[doc = #doc]
        ///
        /// A method's error is a refusal: what the interface itself has no error for. Handles are the implementer's to
        /// check against `call.lease`.
        #[#rt::async_trait]
        pub trait #trait_name: ::core::marker::Send + ::core::marker::Sync {
            #(#signatures)*
        }

        /// Serves one invocation of this interface.
        ///
        /// # Errors
        /// `unknown-operation` where the interface has no such function; `type-mismatch` where the caller knows it by
        /// another type; `bad-payload` or `too-large` where the parameters are not of that type; and whatever the
        /// provider refuses.
        pub async fn dispatch<__Provider: #trait_name + ?::core::marker::Sized>(
            __provider: &__Provider,
            __call: &::trellis_provider_sdk::Call,
        ) -> ::core::result::Result<#rt::Bytes, ::trellis_provider_sdk::Refusal> {
            if !matches(&__call.operation.interface) {
                return ::core::result::Result::Err(#rt::unknown(__call));
            }
            match &*__call.operation.function {
                #(#arms)*
                _ => ::core::result::Result::Err(#rt::unknown(__call)),
            }
        }
    }
}

fn calling(
    package: &Package,
    module: &Module,
    methods: &[Method<'_>],
    client: &Ident,
) -> TokenStream {
    let rt = quote!(::trellis_provider_sdk::__macro);
    let doc = format!(" Calls `{}` through a caller.", module.full_name);
    let methods = methods.iter().map(|method| {
        let (doc, name, wit) = (&method.doc, &method.rust_name, &method.wit_name);
        let (constant, result) = (&method.constant, method.result(package));
        let (params, encoded): (Vec<_>, Vec<_>) = method
            .params
            .iter()
            .map(|(name, ty)| {
                let (ty, expression) = types::borrowed(package, ty, name);
                (quote!(#name: #ty), expression)
            })
            .unzip();
        let encoded = match encoded.is_empty() {
            true => quote!(#rt::protocol::value::NoParams),
            false => quote!((#(#encoded,)*)),
        };
        quote! {
            #doc
            ///
            /// # Errors
            /// The refusal of whoever stood in the way, or `bad-payload` where the answer is not of the result's type.
            pub async fn #name(
                &self,
                #(#params,)*
            ) -> ::core::result::Result<#result, ::trellis_provider_sdk::Refusal> {
                static __OPERATION: ::std::sync::LazyLock<::trellis_provider_sdk::Operation> =
                    ::std::sync::LazyLock::new(|| ::trellis_provider_sdk::Operation::new(INTERFACE, #wit));
                #rt::call(&self.0, &__OPERATION, type_hash::#constant, &#encoded).await
            }
        }
    });
    quote! {
        #[doc = #doc]
        #[derive(Debug, Clone)]
        pub struct #client<__Caller>(
            /// What carries the calls.
            pub __Caller
        );

        impl<__Caller: ::trellis_provider_sdk::interface::Caller> #client<__Caller> {
            #(#methods)*
        }
    }
}
