//! The description of HTTP routes: OpenAPI 3.1.
//!
//! A server declares each [`Route`] once. Its router routes it, and its document describes it by an [`Operation`].

use serde_json::{Map, Value as Json, json};

/// A method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// Reads, without a body.
    Get,
    /// Sends a body.
    Post,
}

impl Method {
    /// As requests spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// A method of a path. Parts of the path that vary are in braces, for routers and for OpenAPI alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path.
    pub path: &'static str,
}

impl Route {
    /// `GET` of a path.
    #[must_use]
    pub const fn get(path: &'static str) -> Self {
        Self { method: Method::Get, path }
    }

    /// `POST` to a path.
    #[must_use]
    pub const fn post(path: &'static str) -> Self {
        Self { method: Method::Post, path }
    }
}

/// What a route takes and answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    method: Method,
    path: String,
    parameters: Vec<Json>,
    responses: Map<String, Json>,
    about: Map<String, Json>,
}

impl Operation {
    /// An operation that fails as all do: with `{"error": …}`, under the status of its kind.
    #[must_use]
    pub fn new(route: Route, summary: &str) -> Self {
        let about = Map::from_iter([("summary".to_owned(), summary.into())]);
        let failed = json!({"$ref": "#/components/responses/Error"});
        let responses = Map::from_iter([("default".to_owned(), failed)]);
        let (method, path) = (route.method, route.path.to_owned());
        Self { method, path, parameters: Vec::new(), responses, about }
    }

    /// The same operation on a path without a part that varies, such as that of one service.
    #[must_use]
    pub fn at(self, part: &str, name: &str) -> Self {
        let path = self.path.replace(&format!("{{{part}}}"), name);
        let parameters = self.parameters.into_iter().filter(|parameter| parameter["name"] != part).collect();
        Self { path, parameters, ..self }
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A value in the `path`, the `query` or a `header`. Those in the path are required.
    #[must_use]
    pub fn parameter(mut self, place: &str, name: &str, about: &str, schema: Json) -> Self {
        let required = place == "path";
        self.parameters.push(
            json!({"in": place, "name": name, "required": required, "description": about, "schema": schema}),
        );
        self
    }

    /// The body that it takes.
    #[must_use]
    pub fn body(mut self, media: &[(&str, Json)]) -> Self {
        self.about.insert("requestBody".to_owned(), json!({"required": true, "content": content(media)}));
        self
    }

    /// What it answers with a status.
    #[must_use]
    pub fn answer(mut self, status: u16, about: &str, media: &[(&str, Json)]) -> Self {
        let response = json!({"description": about, "content": content(media)});
        self.responses.insert(status.to_string(), response);
        self
    }

    fn into_json(self) -> Json {
        let mut about = self.about;
        if !self.parameters.is_empty() {
            about.insert("parameters".to_owned(), self.parameters.into());
        }
        about.insert("responses".to_owned(), self.responses.into());
        about.into()
    }
}

/// The type of a text answer.
#[must_use]
pub fn text() -> Vec<(&'static str, Json)> {
    vec![("text/plain", json!({"type": "string"}))]
}

fn content(media: &[(&str, Json)]) -> Json {
    let media = media.iter().map(|(name, schema)| ((*name).to_owned(), json!({"schema": schema})));
    media.collect::<Map<_, _>>().into()
}

/// The document of a server: its operations, and the schemas that they refer to as `#/components/schemas/NAME`.
#[must_use]
pub fn document(title: &str, operations: Vec<Operation>, mut schemas: Map<String, Json>) -> Json {
    let mut paths = Map::new();
    for operation in operations {
        let (path, method) = (operation.path.clone(), operation.method.name().to_lowercase());
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[method] = operation.into_json();
    }
    schemas.insert("Error".to_owned(), error_schema());
    let failed = json!({
        "description": "The request failed. The status follows from the kind.",
        "headers": {"Retry-After": {
            "description": "With 429: after how many seconds to try again.", "schema": {"type": "integer"},
        }},
        "content": content(&[("application/json", json!({"$ref": "#/components/schemas/Error"}))]),
    });
    json!({
        "openapi": "3.1.0",
        "info": {"title": title, "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": schemas, "responses": {"Error": failed}},
    })
}

/// `{"error": {"kind", "message"}}`
fn error_schema() -> Json {
    let kinds = tidemark_kernel::ErrorKind::ALL.map(tidemark_kernel::ErrorKind::name);
    json!({
        "type": "object",
        "required": ["error"],
        "properties": {"error": {
            "type": "object",
            "required": ["kind", "message"],
            "properties": {"kind": {"enum": kinds}, "message": {"type": "string"}},
        }},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_of_one_path_are_put_together() {
        let get = Operation::new(Route::get("/a"), "Asks.").answer(200, "It.", &text());
        let post = Operation::new(Route::post("/a"), "Sends.").body(&[("application/json", json!({}))]);
        let document = document("T", vec![get, post], Map::new());
        let path = &document["paths"]["/a"];
        assert_eq!(path["get"]["responses"]["200"]["content"]["text/plain"]["schema"]["type"], "string");
        assert_eq!(path["post"]["requestBody"]["content"]["application/json"], json!({"schema": {}}));
        assert_eq!(path["post"]["responses"]["default"]["$ref"], "#/components/responses/Error");
        let kinds = &document["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["kind"];
        assert!(kinds["enum"].as_array().is_some_and(|kinds| kinds.contains(&json!("too_large"))), "{kinds}");
    }

    #[test]
    fn a_part_of_a_path_may_be_filled_in() {
        let all = Operation::new(Route::get("/a/{b}"), "Asks.").parameter("path", "b", "Which.", json!({}));
        assert_eq!(all.parameters.len(), 1);
        let one = all.at("b", "x");
        assert_eq!((one.path(), one.parameters.len()), ("/a/x", 0));
    }
}
