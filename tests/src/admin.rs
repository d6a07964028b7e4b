//! Admin commands on a control node, as an operator on its machine types them.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;
use tokio::process::Command;

use crate::program;

/// The admin commands of the node with this data directory.
#[derive(Clone, Debug)]
pub struct Admin {
    data: PathBuf,
}

impl Admin {
    /// Of the node whose data lie here.
    pub fn of(data: &Path) -> Self {
        Self { data: data.to_owned() }
    }

    /// Runs an admin command and gives its JSON answer; a failing one is an error with what it said.
    pub async fn run(&self, words: &[&str]) -> anyhow::Result<Value> {
        let output = self.try_run(words).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "mezusphere {} failed: {said}", words.join(" "));
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("mezusphere {} printed no JSON", words.join(" ")))
    }

    /// Runs an admin command whatever comes of it.
    pub async fn try_run(&self, words: &[&str]) -> anyhow::Result<std::process::Output> {
        let mut command = Command::new(program::path("mezusphere")?);
        command.arg("--json").arg("--data").arg(&self.data).args(words).kill_on_drop(true);
        Ok(command.output().await?)
    }

    /// A project `shop` with a public and a protected route, the role `customer`, and the user Ada.
    pub async fn seed_shop(&self) -> anyhow::Result<Shop> {
        self.run(&["project", "create", "shop", "--name", "Shop"]).await?;
        self.run(&["role", "set", "shop", "customer", "--permission", "orders:read"]).await?;
        self.run(&["route", "add", "shop", "/*", "--auth", "public"]).await?;
        self.run(&["route", "add", "shop", "/account/*", "--auth", "required", "--role", "customer"]).await?;
        let user = self
            .run(&[
                "user",
                "create",
                "shop",
                "ada@example.com",
                "--name",
                "Ada Lovelace",
                "--role",
                "customer",
            ])
            .await?;
        let key = self.run(&["api-key", "create", "shop"]).await?;
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Shop {
            host: "shop.localhost".to_owned(),
            email: "ada@example.com".to_owned(),
            password: text(&user, "password").context("a password is printed once")?,
            user: text(&user, "id").context("a user has an id")?,
            connection_key: text(&key, "secret").context("a key is printed once")?,
        })
    }
}

/// What [`Admin::seed_shop`] made.
#[derive(Clone, Debug)]
pub struct Shop {
    /// The endpoint's host.
    pub host: String,
    /// Ada's e-mail address.
    pub email: String,
    /// Ada's password.
    pub password: String,
    /// Ada's id.
    pub user: String,
    /// What a warpgate connects with.
    pub connection_key: String,
}
