//! `countersign workspaces …`.

use clap::{Args, Subcommand};
use countersign_proto::trust_v1::workspace_service_client::WorkspaceServiceClient;
use countersign_proto::trust_v1::{
    CreateWorkspaceRequest, DeleteWorkspaceRequest, GetWorkspaceRequest, ListWorkspacesRequest, UpdateWorkspaceRequest,
    Workspace, WorkspaceState,
};

use super::pages;
use crate::arguments::Session;
use crate::connection::{Authorized, Service};
use crate::failure::{Failure, Result};
use crate::output::{ListFormat, Output};
use crate::resources::{WorkspaceStateArg, workspace_json, workspace_state};

#[derive(Debug, Subcommand)]
pub(crate) enum WorkspacesCommand {
    /// Create a workspace. Prints its id.
    Create(CreateArgs),
    /// Show one workspace as JSON.
    Get(IdArgs),
    /// List the workspaces you may see, oldest first.
    List(ListArgs),
    /// Rename, disable or enable a workspace.
    Update(UpdateArgs),
    /// Delete a workspace that holds no trusted issuer any more.
    Delete(IdArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// A name for people.
    #[arg(value_name = "NAME")]
    display_name: String,
}

#[derive(Debug, Args)]
pub(crate) struct IdArgs {
    /// The workspace, `ws_…`.
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// How to print the list.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ListFormat,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// The workspace, `ws_…`.
    #[arg(value_name = "ID")]
    id: String,
    /// A name for people.
    #[arg(long, value_name = "NAME")]
    display_name: Option<String>,
    /// Whether tokens are exchanged for it.
    #[arg(long, value_name = "STATE")]
    state: Option<WorkspaceStateArg>,
}

type Client = WorkspaceServiceClient<Authorized>;

impl WorkspacesCommand {
    pub(crate) async fn run(self, session: &Session, output: &mut Output) -> Result<()> {
        let mut client = WorkspaceServiceClient::new(session.connection.authorized(Service::Trust, &session.clock).await?);
        match self {
            Self::Create(CreateArgs { display_name }) => {
                let workspace = Workspace { display_name, ..Workspace::default() };
                let created = client.create_workspace(CreateWorkspaceRequest { workspace: Some(workspace) }).await?.into_inner();
                let workspace = created.workspace.unwrap_or_default();
                output.message(format!("Created workspace {}.", workspace.id));
                output.line(workspace.id)?;
            }
            Self::Get(IdArgs { id }) => {
                let found = client.get_workspace(GetWorkspaceRequest { workspace_id: id }).await?.into_inner();
                output.json(&workspace_json(&found.workspace.unwrap_or_default()))?;
            }
            Self::List(ListArgs { output: format }) => show(&list(&client).await?, format, output)?,
            Self::Update(args) => {
                let updated = client.update_workspace(args.into_request()?).await?.into_inner();
                output.message(format!("Updated {}.", updated.workspace.unwrap_or_default().id));
            }
            Self::Delete(IdArgs { id }) => {
                client.delete_workspace(DeleteWorkspaceRequest { workspace_id: id.clone(), etag: String::new() }).await?;
                output.message(format!("Deleted {id}."));
            }
        }
        Ok(())
    }
}

async fn list(client: &Client) -> Result<Vec<Workspace>> {
    let workspaces = pages::all(|page_token| {
        let mut client = client.clone();
        async move {
            let page =
                client.list_workspaces(ListWorkspacesRequest { page_size: pages::PAGE_SIZE, page_token }).await?.into_inner();
            Ok((page.workspaces, page.next_page_token))
        }
    })
    .await?;
    Ok(workspaces)
}

impl UpdateArgs {
    fn into_request(self) -> Result<UpdateWorkspaceRequest> {
        let mut paths = Vec::new();
        paths.extend(self.display_name.as_ref().map(|_| "display_name".to_owned()));
        paths.extend(self.state.map(|_| "state".to_owned()));
        if paths.is_empty() {
            return Err(Failure::usage("nothing to change: give --display-name or --state"));
        }
        let workspace = Workspace {
            id: self.id,
            display_name: self.display_name.unwrap_or_default(),
            state: self.state.map(WorkspaceState::from).unwrap_or_default().into(),
            ..Workspace::default()
        };
        Ok(UpdateWorkspaceRequest { workspace: Some(workspace), update_mask: Some(prost_types::FieldMask { paths }) })
    }
}

fn show(workspaces: &[Workspace], format: ListFormat, output: &mut Output) -> std::io::Result<()> {
    match format {
        ListFormat::Json => output.json(&workspaces.iter().map(workspace_json).collect::<Vec<_>>()),
        ListFormat::Table => {
            let rows: Vec<_> = workspaces
                .iter()
                .map(|workspace| [workspace.id.clone(), workspace.display_name.clone(), workspace_state(workspace).to_owned()])
                .collect();
            output.table(["ID", "NAME", "STATE"], &rows)
        }
    }
}
