//! The OpenAPI document, made from the table of routes that the router is made from: what is served is what it says.

use burnlog_http::{Content, Method, PROTOCOL, ROUTES, Route};
use serde_json::{Value, json};

/// What else a server answers: path, whether a token may be needed, and one sentence.
pub(crate) const OWN_PATHS: &[(&str, bool, &str)] = &[
    ("/healthz", false, "Tells that the process answers."),
    ("/readyz", false, "Tells that every ledger can be read and folded; 503 when not."),
    ("/metrics", true, "Counters in the text form of Prometheus."),
    ("/v1/openapi.json", false, "This document."),
];

/// Returns the document.
pub fn openapi() -> Value {
    let mut paths = serde_json::Map::new();
    for route in ROUTES {
        let method = match route.method {
            Method::Get => "get",
            Method::Post => "post",
        };
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[method] = operation(route);
    }
    for (path, needs_token, summary) in OWN_PATHS {
        let security = if *needs_token { json!([{ "token": [] }]) } else { json!([]) };
        paths.insert(
            (*path).to_owned(),
            json!({ "get": {
                "summary": summary,
                "operationId": path.trim_start_matches('/').replace(['/', '.'], "_"),
                "security": security,
                "responses": { "200": { "description": "It is so." }, "default": { "$ref": "#/components/responses/refusal" } },
            }}),
        );
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "burnlog",
            "version": PROTOCOL,
            "description": "Ledgers of coding-agent sessions. The bodies that are frames are described in docs/protocol.md.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": components(),
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = ["ledger", "writer"]
        .iter()
        .filter(|name| route.path.contains(&format!("{{{name}}}")))
        .map(|name| {
            let pattern = if *name == "ledger" { "^[a-z0-9_-]{1,63}$" } else { "^ed25519:[0-9a-f]{64}$" };
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "pattern": pattern } })
        })
        .collect();
    parameters.extend(route.parameters.iter().map(|(name, help)| {
        json!({ "name": name, "in": "query", "description": help, "schema": { "type": "string" } })
    }));
    let scopes: Vec<&str> = route.scopes.iter().map(|scope| scope.name()).collect();
    let mut operation = json!({
        "operationId": route.operation.name(),
        "summary": route.summary,
        "description": format!("Scope: {}.", scopes.join(" or ")),
        "parameters": parameters,
        "responses": {
            "200": { "description": "Done.", "content": content(route.answer) },
            "default": { "$ref": "#/components/responses/refusal" },
        },
    });
    if route.request != Content::Nothing {
        operation["requestBody"] = json!({ "required": true, "content": content(route.request) });
    }
    operation
}

fn content(content: Content) -> Value {
    let schema = match content {
        Content::Nothing => return json!({}),
        Content::Frame(_) => json!({ "type": "string", "format": "binary" }),
        Content::Json | Content::JsonLines => json!({ "type": "object" }),
    };
    json!({ content.media_type(): { "schema": schema } })
}

fn components() -> Value {
    json!({
        "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        "schemas": { "refusal": {
            "type": "object",
            "required": ["error"],
            "properties": { "error": {
                "type": "object",
                "required": ["kind", "operation", "location", "message"],
                "properties": {
                    "kind": { "type": "string" },
                    "operation": { "type": "string" },
                    "location": { "type": "string" },
                    "message": { "type": "string" },
                    "missing": { "type": "array", "items": { "type": "string" } },
                    "head": { "type": "object" },
                },
            }},
        }},
        "responses": { "refusal": {
            "description": "Not done, and why.",
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/refusal" } } },
        }},
    })
}
