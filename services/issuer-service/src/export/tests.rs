use axum::body::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{Attribute, ObjectStore, ObjectStoreExt as _};

use super::*;

const MAX_AGE: Duration = Duration::from_mins(5);

async fn text(store: &InMemory, path: &str) -> Option<String> {
    let found = store.get(&Path::from(path)).await.ok()?;
    Some(String::from_utf8(found.bytes().await.unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn a_document_is_written_once_with_its_headers_and_again_when_it_is_another() {
    let store = Arc::new(InMemory::new());
    let target = ExportTarget::of(Arc::clone(&store) as Arc<dyn ObjectStore>, true);
    let ensure = async |content: &'static str| {
        target.ensure("a/b", &Bytes::from(content), "application/json", MAX_AGE).await.unwrap();
        store.head(&Path::from("prefix/a/b")).await.unwrap().e_tag
    };
    let first = ensure("{}").await;
    let found = store.get(&Path::from("prefix/a/b")).await.unwrap();
    assert_eq!(found.attributes.get(&Attribute::ContentType).map(AsRef::as_ref), Some("application/json"));
    assert_eq!(found.attributes.get(&Attribute::CacheControl).map(AsRef::as_ref), Some("public, max-age=300"));
    assert_eq!(ensure("{}").await, first, "not written again");
    store.put(&Path::from("prefix/a/b"), "[]".into()).await.unwrap();
    assert_ne!(ensure("{}").await, first);
    assert_eq!(text(&store, "prefix/a/b").await.unwrap(), "{}");
    let shorter = Duration::from_mins(1);
    target.ensure("a/b", &Bytes::from("{}"), "application/json", shorter).await.unwrap();
    let found = store.get(&Path::from("prefix/a/b")).await.unwrap();
    assert_eq!(found.attributes.get(&Attribute::CacheControl).map(AsRef::as_ref), Some("public, max-age=60"));
    target.remove("a/b").await.unwrap();
    target.remove("a/b").await.unwrap();
    assert_eq!(text(&store, "prefix/a/b").await, None);
}

#[test]
fn a_place_is_known_by_its_url_and_options_are_those_of_its_kind() {
    let options = |pairs: &[(&str, &str)]| pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let folder = tempfile::tempdir().unwrap();
    let directory = format!("file://{}", folder.path().display());
    for (url, pairs) in [
        (directory.as_str(), &[][..]),
        ("s3://bucket/prefix", &[("aws_access_key_id", "a"), ("aws_secret_access_key", "b"), ("aws_region", "eu-central-1")]),
        ("s3://bucket", &[("endpoint", "https://s3.example.com"), ("timeout", "5s")]),
        ("az://container/prefix", &[("azure_storage_account_name", "a"), ("azure_storage_account_key", "Yg==")]),
    ] {
        ExportTarget::parse(url, options(pairs)).unwrap_or_else(|error| panic!("{url}: {error:?}"));
    }
    for (url, pairs) in [
        ("", &[][..]),
        ("/directory", &[]),
        ("ftp://host/a", &[]),
        ("file:///nowhere/at/all", &[]),
        (&directory, &[("aws_region", "a")]),
        ("s3://bucket", &[("azure_storage_account_name", "a")]),
        ("s3://bucket", &[("aws_acces_key_id", "a")]),
    ] {
        assert!(ExportTarget::parse(url, options(pairs)).is_err(), "{url}");
    }
}

#[test]
fn s61_neither_credentials_nor_what_else_a_url_may_hold_are_shown() {
    let options =
        |name: &str| vec![("aws_access_key_id".to_owned(), "canary-61".to_owned()), (name.to_owned(), "canary-61".to_owned())];
    let good = ExportTarget::parse("s3://bucket/prefix", options("aws_secret_access_key"));
    assert_eq!(format!("{:?}", good.unwrap()), "ExportTarget(\"s3://bucket/prefix\")");
    for (url, name) in [
        ("s3://canary-user:canary-password@bucket/prefix?canary", "aws_secret_access_key"),
        ("s3://bucket/prefix", "aws_session_token"),
        ("s3://bucket/prefix", "aws_secret_key_access"),
    ] {
        let target = ExportTarget::parse(url, options(name));
        assert!(!format!("{target:?}").contains("canary"), "{target:?}");
    }
}
