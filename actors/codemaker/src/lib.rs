//! Makes short codes for URLs: the actor behind the custom interface `trellis:shortlink/codes`.
//!
//! A wish comes in, a code or a refusal goes out; nothing is stored and nobody is called, so any number of instances
//! on any hosts give the same answers. `alphabet` decides which symbols a code may use, `maker` turns a wish into
//! symbols, and this file joins them to the component's export.

mod alphabet;
mod maker;

/// Types and export glue of the interface, generated from `interfaces/wit/trellis-shortlink`.
mod bindings {
    #![expect(
        unsafe_code,
        reason = "generated code crosses the component boundary by pointer"
    )]
    wit_bindgen::generate!({
        path: "../../interfaces/wit/trellis-shortlink",
        world: "code-maker",
    });
    use super::CodeMaker;
    export!(CodeMaker);
}

use bindings::exports::trellis::shortlink::codes::{Code, Guest, Refusal, Wish};

struct CodeMaker;

impl Guest for CodeMaker {
    fn make(wish: Wish) -> Result<Code, Refusal> {
        maker::make(&wish)
    }

    fn fingerprint(data: Vec<u8>) -> Vec<u8> {
        maker::fingerprint(&data)
    }
}
