//! The primary that sentinels name.
//!
//! They are asked whenever a connection is made, and at no other time: a failover breaks the connections to the old primary, or
//! makes it refuse writes. Until then a primary that was cut off may go on taking claims that are lost later; the commit point
//! decides.

use futures::FutureExt as _;
use futures::future::select_ok;
use redis::ServerErrorKind;
use redis::aio::MultiplexedConnection;
use tokio::time::sleep;

use super::link::{self, PROBE_KEY};
use super::url::{Address, Dial};
use super::{COMMAND_LIMIT, RedisTrouble, STAGGER};

/// The sentinels of one service.
pub(super) struct Sentinels {
    /// At least one.
    pub(super) addresses: Vec<Address>,
    /// How sentinels are talked to.
    pub(super) dial: Dial,
    pub(super) service: String,
    /// How primary and replicas are talked to.
    pub(super) servers: Dial,
}

impl Sentinels {
    /// Connects to the primary that the first sentinel names whose word holds: one that knows of no failover yet, or forgot the
    /// service, leaves it to the others. The caller limits the whole.
    pub(super) async fn connect_to_primary(&self) -> Result<MultiplexedConnection, RedisTrouble> {
        let attempts = self.addresses.iter().zip(0..).map(|(sentinel, place)| {
            async move {
                sleep(STAGGER * place).await;
                let primary = self.ask(sentinel).await?;
                self.connect(&primary).await
            }
            .boxed()
        });
        let (connection, _) = select_ok(attempts).await?;
        Ok(connection)
    }

    async fn ask(&self, sentinel: &Address) -> Result<Address, RedisTrouble> {
        let mut connection = link::open(&self.dial, sentinel, None).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        let answer: Option<(String, u16)> = command.query_async(&mut connection).await.map_err(RedisTrouble::Failed)?;
        let (host, port) = answer.ok_or(RedisTrouble::NotWhatItShouldBe("the sentinel does not know the service"))?;
        Ok(Address { host, port })
    }

    async fn connect(&self, primary: &Address) -> Result<MultiplexedConnection, RedisTrouble> {
        let mut connection = link::open(&self.servers, primary, Some(COMMAND_LIMIT)).await?;
        let role: Result<Vec<redis::Value>, _> = redis::cmd("ROLE").query_async(&mut connection).await;
        match role.map_err(RedisTrouble::Failed) {
            Ok(role) if role.first().is_some_and(|role| *role == redis::Value::BulkString(b"master".to_vec())) => {}
            Ok(_) => return Err(RedisTrouble::NotWhatItShouldBe("the sentinel names a server that is no primary")),
            // Users that may only do what is needed may not ask this; the write below tells most replicas as well.
            Err(refused) if refused.server_error() == Some(ServerErrorKind::NoPerm) => {}
            Err(trouble) => return Err(trouble),
        }
        link::probe(&mut connection, PROBE_KEY).await?;
        Ok(connection)
    }
}
