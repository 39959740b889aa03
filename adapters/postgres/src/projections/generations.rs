//! Generations as tables: which there are, making, showing and dropping one. Each in the transaction that its caller began.

use super::{PostgresProjections, tables};
use crate::session::Session;
use burnlog_log::{Result, Token};
use burnlog_projections::{Generation, GenerationState, StoreState, TABLES};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

impl PostgresProjections {
    /// The statement that reads the generations.
    pub(super) fn select_states(&self) -> String {
        format!(
            "select generation, version, revision, token, settled, live from {} order by generation",
            self.own("projection_generations")
        )
    }

    pub(super) async fn states(&self, session: &Session<'_>) -> Result<StoreState> {
        states(session, &session.query(&self.select_states(), &[]).await?)
    }

    /// Makes the records and tables of a new generation in place of the one that is being built.
    pub(super) async fn make_generation(&self, session: &Session<'_>, version: u32) -> Result<Generation> {
        let state = self.states(session).await?;
        if let Some(stale) = &state.building {
            self.drop_generation(session, stale.generation).await?;
        }
        let next = format!(
            "update {} set last_generation = last_generation + 1 returning last_generation",
            self.own("projections")
        );
        let rows = session.query(&next, &[]).await?;
        let number: i64 = session.get(super::lease::one_row(session, &rows)?, 0)?;
        let generation = Generation(number as u32);
        let insert = format!(
            "insert into {} (generation, version, revision, settled, live) values ($1, $2, 0, false, false)",
            self.own("projection_generations")
        );
        session.execute(&insert, &[(&number, Type::INT8), (&i64::from(version), Type::INT8)]).await?;
        let create: Vec<String> =
            TABLES.iter().map(|table| tables::create_table(&self.schema, table, generation)).collect();
        session.run(&create.join(";\n")).await?;
        self.let_others_read(session, generation).await?;
        if state.live.is_none() {
            self.show(session, generation).await?;
        }
        Ok(generation)
    }

    /// Lets everybody read the new tables who may read the list of generations: nobody has to be granted rights anew
    /// after each rebuild.
    async fn let_others_read(&self, session: &Session<'_>, generation: Generation) -> Result<()> {
        let names: Vec<String> = TABLES.iter().map(|table| self.table(table, generation)).collect();
        self.grant_as_to_generations(session, &names).await
    }

    async fn grant_as_to_generations(&self, session: &Session<'_>, names: &[String]) -> Result<()> {
        let readers = "select case when a.grantee = 0 then 'public' else quote_ident(r.rolname) end \
             from pg_class c, aclexplode(c.relacl) a left join pg_roles r on r.oid = a.grantee \
             where c.oid = $1::text::regclass and a.privilege_type = 'SELECT' and a.grantee <> c.relowner \
             and (a.grantee = 0 or r.rolname is not null)";
        let generations = self.own("projection_generations");
        for row in session.query(readers, &[(&generations, Type::TEXT)]).await? {
            let reader: &str = session.get(&row, 0)?;
            session.run(&format!("grant select on {} to {reader}", names.join(", "))).await?;
        }
        Ok(())
    }

    /// Makes the views show this generation, and queries read it.
    pub(super) async fn show(&self, session: &Session<'_>, generation: Generation) -> Result<()> {
        session.run(&tables::create_views(&self.schema, generation)).await?;
        self.grant_as_to_generations(session, &tables::view_names(&self.schema)).await?;
        let live = format!("update {} set live = generation = $1", self.own("projection_generations"));
        session.execute(&live, &[(&i64::from(generation.0), Type::INT8)]).await.map(drop)
    }

    pub(super) async fn drop_generation(&self, session: &Session<'_>, generation: Generation) -> Result<()> {
        session.run(&tables::drop_tables(&self.schema, generation)).await?;
        for table in ["projection_cursors", "projection_generations"] {
            let delete = format!("delete from {} where generation = $1", self.own(table));
            session.execute(&delete, &[(&i64::from(generation.0), Type::INT8)]).await?;
        }
        Ok(())
    }
}

/// Takes the generations out of the answer to [`PostgresProjections::select_states`].
pub(super) fn states(session: &Session<'_>, rows: &[Row]) -> Result<StoreState> {
    let mut state = StoreState::default();
    for row in rows {
        let generation = GenerationState {
            generation: Generation(session.get::<i64>(row, 0)? as u32),
            version: session.get::<i64>(row, 1)? as u32,
            revision: session.get::<i64>(row, 2)? as u64,
            token: session.get::<Option<Vec<u8>>>(row, 3)?.map(Token),
            settled: session.get(row, 4)?,
        };
        let live: bool = session.get(row, 5)?;
        *(if live { &mut state.live } else { &mut state.building }) = Some(generation);
    }
    Ok(state)
}
