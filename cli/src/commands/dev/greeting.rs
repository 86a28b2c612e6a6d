//! The output of `dev` once it runs: its addresses, and what to try.

use std::net::SocketAddr;

use serde_json::{Map, Value as Json, json};
use tidemark_engine::Project;
use tidemark_kernel::{SourcePlan, Type};

use crate::clock;

/// Where it listens, and a request to push an event and one to look it up.
pub(super) fn text(project: &Project, http: SocketAddr, grpc: SocketAddr) -> String {
    let mut text = format!(
        "\nversion {} of {} runs; edit its YAML files, and what they change is applied\n\n  \
         HTTP  http://{http}   lookups, pushes, /metrics, /readyz\n  gRPC  {grpc}   tidemark.serving.v1, health, reflection\n",
        project.version, project.repo.project.name
    );
    if let Some(source) = project.repo.sources.values().next() {
        text += "\npush an event:\n";
        text += &curl(http, &format!("sources/{}/events", source.name), &event(source).into());
    }
    if let Some(service) = project.repo.services.values().next() {
        let keys = service.keys().into_iter().map(|key| (key.name.clone(), example(key.ty)));
        let request = service.request.iter().map(|field| (field.name.clone(), example(field.ty)));
        let row = keys.chain(request).collect::<Map<_, _>>();
        text += "\nlook up its features:\n";
        text += &curl(http, &format!("services/{}/lookup", service.name), &json!({"rows": [row]}));
    }
    text
}

/// An event, with each member where the source looks for it.
fn event(source: &SourcePlan) -> Map<String, Json> {
    let mut event = Map::new();
    for field in &source.fields {
        let path = source.path(&field.name);
        let Some((name, outer)) = path.split_last() else { continue };
        let inside = outer.iter().try_fold(&mut event, |object, name| {
            object.entry(*name).or_insert_with(|| Map::new().into()).as_object_mut()
        });
        // Where one field takes an object as a whole and another one a member of it, the object is what is shown.
        if let Some(object) = inside {
            object.entry(*name).or_insert_with(|| example(field.ty));
        }
    }
    event
}

fn curl(http: SocketAddr, path: &str, body: &Json) -> String {
    format!("  curl -s http://{http}/v1/{path} -d '{body}'\n")
}

/// A value that could be meant.
fn example(ty: Type) -> Json {
    match ty {
        Type::Bool => true.into(),
        Type::Int64 => 7.into(),
        Type::Float64 => 12.5.into(),
        Type::String => "a".into(),
        Type::Timestamp => clock::now().to_string().into(),
        Type::Bytes => "AQI=".into(),
    }
}
