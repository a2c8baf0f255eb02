-- Written from models.py by tests/store/test_new_store.py. Blank lines part the statements.
CREATE TABLE budgets (
    name TEXT NOT NULL,
    content JSON NOT NULL,
    CONSTRAINT pk_budgets PRIMARY KEY (name)
);

CREATE TABLE dead_sessions (
    id INTEGER NOT NULL,
    host TEXT NOT NULL,
    repository TEXT NOT NULL,
    location TEXT NOT NULL,
    tries INTEGER NOT NULL,
    CONSTRAINT pk_dead_sessions PRIMARY KEY (id)
);

CREATE TABLE documents (
    digest TEXT NOT NULL,
    content BLOB NOT NULL,
    used_at DATETIME,
    CONSTRAINT pk_documents PRIMARY KEY (digest)
);

CREATE INDEX ix_documents_used_at ON documents (used_at);

CREATE TABLE jobs (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    image TEXT NOT NULL,
    source JSON NOT NULL,
    config_digest TEXT NOT NULL,
    host TEXT NOT NULL,
    repository TEXT NOT NULL,
    tag TEXT,
    state VARCHAR(16) NOT NULL,
    priority INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    options JSON NOT NULL,
    documents JSON DEFAULT '[]' NOT NULL,
    digest TEXT,
    bytes_sent BIGINT NOT NULL,
    error_code TEXT,
    error_message TEXT,
    error_hint TEXT,
    created_at DATETIME NOT NULL,
    started_at DATETIME,
    finished_at DATETIME,
    next_try_at DATETIME,
    lease_owner TEXT,
    lease_token INTEGER NOT NULL,
    lease_expires_at DATETIME,
    keeps_older BOOLEAN DEFAULT 0 NOT NULL,
    tagging_at DATETIME,
    superseded_by BIGINT,
    waiting_since DATETIME,
    waiting_reported TEXT,
    labels JSON DEFAULT '{}' NOT NULL,
    after_job BIGINT,
    not_before DATETIME,
    machine TEXT,
    spool TEXT,
    time_window TEXT,
    speed BIGINT,
    in_flight BIGINT,
    CONSTRAINT ck_jobs_state CHECK (state IN ('cancelled', 'failed', 'paused', 'queued', 'receiving', 'running', 'succeeded', 'superseded', 'waiting')),
    CONSTRAINT ck_jobs_finished CHECK ((state IN ('cancelled', 'failed', 'succeeded', 'superseded')) = (finished_at IS NOT NULL)),
    CONSTRAINT ck_jobs_lease_owner CHECK ((state = 'running') = (lease_owner IS NOT NULL)),
    CONSTRAINT ck_jobs_lease_expiry CHECK ((lease_owner IS NULL) = (lease_expires_at IS NULL)),
    CONSTRAINT ck_jobs_next_try CHECK ((state = 'waiting') = (next_try_at IS NOT NULL)),
    CONSTRAINT ck_jobs_digest CHECK ((state = 'succeeded') = (digest IS NOT NULL)),
    CONSTRAINT ck_jobs_tagging CHECK (tagging_at IS NULL OR state = 'running'),
    CONSTRAINT ck_jobs_superseded CHECK ((state = 'superseded') = (superseded_by IS NOT NULL))
);

CREATE INDEX ix_jobs_claim ON jobs (finished_at, priority DESC, id);

CREATE INDEX ix_jobs_destination ON jobs (host, repository, tag, id);

CREATE INDEX ix_jobs_lease ON jobs (lease_owner, lease_expires_at) WHERE lease_owner IS NOT NULL;

CREATE INDEX ix_jobs_state_id ON jobs (state, id);

CREATE INDEX ix_jobs_superseded_by ON jobs (superseded_by) WHERE superseded_by IS NOT NULL;

CREATE INDEX ix_jobs_time_window ON jobs (time_window) WHERE finished_at IS NULL AND time_window IS NOT NULL;

CREATE INDEX ix_jobs_unfinished ON jobs (host, repository, tag, id) WHERE finished_at IS NULL;

CREATE TABLE known_blobs (
    diff_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    compression TEXT NOT NULL,
    size BIGINT NOT NULL,
    uncompressed_size BIGINT,
    media_type TEXT NOT NULL,
    created_at DATETIME NOT NULL,
    CONSTRAINT pk_known_blobs PRIMARY KEY (diff_id, digest)
);

CREATE INDEX ix_known_blobs_created_at ON known_blobs (created_at);

CREATE INDEX ix_known_blobs_digest ON known_blobs (digest);

CREATE TABLE machines (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    home TEXT NOT NULL,
    spool TEXT,
    seen_at DATETIME NOT NULL,
    CONSTRAINT pk_machines PRIMARY KEY (id)
);

CREATE TABLE queue_settings (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    until DATETIME,
    next_value TEXT,
    CONSTRAINT pk_queue_settings PRIMARY KEY (name)
);

CREATE TABLE registries (
    host TEXT NOT NULL,
    max_chunk BIGINT,
    uplink FLOAT,
    profile TEXT,
    carries FLOAT,
    breaks INTEGER,
    limited_at DATETIME,
    link_rate FLOAT,
    gzip_level INTEGER,
    CONSTRAINT pk_registries PRIMARY KEY (host)
);

CREATE TABLE schema_support (
    oldest VARCHAR(32) NOT NULL,
    CONSTRAINT pk_schema_support PRIMARY KEY (oldest)
);

CREATE TABLE uploads (
    id INTEGER NOT NULL,
    host TEXT NOT NULL,
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    state VARCHAR(16) NOT NULL,
    location TEXT,
    "offset" BIGINT NOT NULL,
    in_flight BIGINT NOT NULL,
    chunk_size BIGINT,
    min_chunk BIGINT,
    max_chunk BIGINT,
    profile TEXT,
    furthest BIGINT,
    losses INTEGER,
    restarts BOOLEAN,
    compression TEXT,
    prefix_size BIGINT,
    prefix_sha256 TEXT,
    opened_at DATETIME,
    used_at DATETIME,
    lease_owner TEXT,
    lease_token INTEGER NOT NULL,
    lease_expires_at DATETIME,
    CONSTRAINT pk_uploads PRIMARY KEY (id),
    CONSTRAINT uq_uploads_host_repository_digest UNIQUE (host, repository, digest),
    CONSTRAINT ck_uploads_state CHECK (state IN ('abandoned', 'closing', 'idle', 'open', 'present')),
    CONSTRAINT ck_uploads_location CHECK ((state IN ('idle', 'present')) = (location IS NULL)),
    CONSTRAINT ck_uploads_no_session CHECK (location IS NOT NULL OR ("offset" = 0 AND in_flight = 0)),
    CONSTRAINT ck_uploads_counts CHECK ("offset" >= 0 AND in_flight >= 0),
    CONSTRAINT ck_uploads_lease_expiry CHECK ((lease_owner IS NULL) = (lease_expires_at IS NULL))
);

CREATE INDEX ix_uploads_host_digest ON uploads (host, digest);

CREATE INDEX ix_uploads_host_repository_opened_at ON uploads (host, repository, opened_at);

CREATE INDEX ix_uploads_lease_expires_at ON uploads (lease_expires_at);

CREATE INDEX ix_uploads_lease_owner ON uploads (lease_owner);

CREATE INDEX ix_uploads_state ON uploads (state);

CREATE INDEX ix_uploads_used_at ON uploads (used_at);

CREATE TABLE events (
    id INTEGER NOT NULL,
    job_id INTEGER NOT NULL,
    at DATETIME NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    CONSTRAINT pk_events PRIMARY KEY (id),
    CONSTRAINT fk_events_job_id_jobs FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);

CREATE INDEX ix_events_job_id ON events (job_id);

CREATE TABLE job_blobs (
    job_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    kind VARCHAR(16) NOT NULL,
    diff_id TEXT,
    media_type TEXT,
    digest TEXT,
    size BIGINT,
    state VARCHAR(16) NOT NULL,
    bytes_sent BIGINT NOT NULL,
    bytes_wasted BIGINT NOT NULL,
    CONSTRAINT pk_job_blobs PRIMARY KEY (job_id, position),
    CONSTRAINT ck_job_blobs_state CHECK (state IN ('exists', 'mounted', 'pending', 'ready', 'uploaded')),
    CONSTRAINT ck_job_blobs_digest CHECK (state = 'pending' OR digest IS NOT NULL),
    CONSTRAINT ck_job_blobs_size CHECK (state <> 'ready' OR size IS NOT NULL),
    CONSTRAINT ck_job_blobs_kind CHECK (kind IN ('config', 'layer', 'other')),
    CONSTRAINT ck_job_blobs_diff_id CHECK ((kind = 'layer') = (diff_id IS NOT NULL)),
    CONSTRAINT ck_job_blobs_known CHECK (kind = 'layer' OR digest IS NOT NULL),
    CONSTRAINT fk_job_blobs_job_id_jobs FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);

CREATE INDEX ix_job_blobs_diff_id ON job_blobs (diff_id);

CREATE INDEX ix_job_blobs_digest ON job_blobs (digest);

CREATE TABLE workers (
    id TEXT NOT NULL,
    machine TEXT NOT NULL,
    pid INTEGER NOT NULL,
    version TEXT NOT NULL,
    started_at DATETIME NOT NULL,
    seen_at DATETIME NOT NULL,
    expires_at DATETIME NOT NULL,
    CONSTRAINT pk_workers PRIMARY KEY (id),
    CONSTRAINT fk_workers_machine_machines FOREIGN KEY(machine) REFERENCES machines (id) ON DELETE CASCADE
);

CREATE INDEX ix_workers_machine ON workers (machine);

INSERT INTO schema_support (oldest) VALUES ('0020');

CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

INSERT INTO alembic_version (version_num) VALUES ('0022');
