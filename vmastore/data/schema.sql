CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE site_t (
	site INTEGER NOT NULL, 
	text TEXT NOT NULL, 
	CONSTRAINT pk_site_t PRIMARY KEY (site), 
	CONSTRAINT uq_site_t_text UNIQUE (text)
);

CREATE TABLE trace_t (
	trace INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	source TEXT NOT NULL, 
	format TEXT NOT NULL, 
	release TEXT, 
	version TEXT, 
	config TEXT NOT NULL, 
	faults TEXT NOT NULL, 
	note TEXT, 
	source_key TEXT, 
	created_at TEXT NOT NULL, 
	complete INTEGER NOT NULL, 
	head_seq INTEGER NOT NULL, 
	head_hash BLOB, base_ns BIGINT, header_hash BLOB, files_hash BLOB, 
	CONSTRAINT pk_trace_t PRIMARY KEY (trace), 
	CONSTRAINT uq_trace_t_name UNIQUE (name), 
	CONSTRAINT uq_trace_t_source_key UNIQUE (source_key)
);

CREATE TABLE address_space_t (
	trace INTEGER NOT NULL, 
	mm INTEGER NOT NULL, 
	pid INTEGER NOT NULL, 
	parent_mm INTEGER, 
	origin TEXT NOT NULL, 
	born_seq INTEGER NOT NULL, 
	died_seq INTEGER, events INTEGER DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_address_space_t PRIMARY KEY (trace, mm), 
	CONSTRAINT fk_address_space_t_trace FOREIGN KEY(trace) REFERENCES trace_t (trace)
);

CREATE TABLE file_t (
	trace INTEGER NOT NULL, 
	file INTEGER NOT NULL, 
	path TEXT, 
	kind TEXT NOT NULL, 
	readable INTEGER, 
	writable INTEGER, 
	dev TEXT, 
	inode BIGINT, 
	size BIGINT, 
	origin TEXT NOT NULL, 
	flags INTEGER, 
	CONSTRAINT pk_file_t PRIMARY KEY (trace, file), 
	CONSTRAINT fk_file_t_trace FOREIGN KEY(trace) REFERENCES trace_t (trace)
);

CREATE TABLE observed_t (
	trace INTEGER NOT NULL, 
	seq INTEGER NOT NULL, 
	payload BLOB NOT NULL, 
	CONSTRAINT pk_observed_t PRIMARY KEY (trace, seq), 
	CONSTRAINT fk_observed_t_trace FOREIGN KEY(trace) REFERENCES trace_t (trace)
);

CREATE TABLE replay_t (
	replay INTEGER NOT NULL, 
	trace INTEGER NOT NULL, 
	kernel TEXT NOT NULL, 
	options TEXT NOT NULL, 
	engine TEXT NOT NULL, 
	events INTEGER NOT NULL, basis TEXT, peak_seq INTEGER, 
	CONSTRAINT pk_replay_t PRIMARY KEY (replay), 
	CONSTRAINT fk_replay_t_trace FOREIGN KEY(trace) REFERENCES trace_t (trace), 
	CONSTRAINT uq_replay_t_trace_kernel_options UNIQUE (trace, kernel, options)
);

CREATE TABLE skip_t (
	trace INTEGER NOT NULL, 
	n INTEGER NOT NULL, 
	tid INTEGER, 
	call TEXT, 
	reason TEXT NOT NULL, 
	source_line INTEGER, 
	count INTEGER NOT NULL, 
	CONSTRAINT pk_skip_t PRIMARY KEY (trace, n), 
	CONSTRAINT fk_skip_t_trace FOREIGN KEY(trace) REFERENCES trace_t (trace)
);

CREATE TABLE lost_merge_t (
	replay INTEGER NOT NULL, 
	mm INTEGER NOT NULL, 
	boundary BIGINT NOT NULL, 
	seq INTEGER NOT NULL, 
	left_start BIGINT NOT NULL, 
	right_end BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	CONSTRAINT pk_lost_merge_t PRIMARY KEY (replay, mm, boundary), 
	CONSTRAINT fk_lost_merge_t_replay FOREIGN KEY(replay) REFERENCES replay_t (replay)
);

CREATE TABLE snapshot_t (
	replay INTEGER NOT NULL, 
	seq INTEGER NOT NULL, 
	digest BLOB NOT NULL, 
	payload BLOB NOT NULL, 
	CONSTRAINT pk_snapshot_t PRIMARY KEY (replay, seq), 
	CONSTRAINT fk_snapshot_t_replay FOREIGN KEY(replay) REFERENCES replay_t (replay)
);

CREATE TABLE about_t (
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	CONSTRAINT pk_about_t PRIMARY KEY ("key")
);

CREATE TABLE append_t (
	trace INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	first_seq INTEGER NOT NULL, 
	last_seq INTEGER NOT NULL, 
	CONSTRAINT pk_append_t PRIMARY KEY (trace, "key"), 
	CONSTRAINT fk_append_t_trace FOREIGN KEY(trace) REFERENCES trace_t (trace)
);

CREATE TABLE "call_t" (
	call INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	arg_names TEXT NOT NULL, 
	version INTEGER DEFAULT '1' NOT NULL, hash BLOB, 
	CONSTRAINT pk_call_t PRIMARY KEY (call), 
	CONSTRAINT uq_call_t_name_version UNIQUE (name, version)
);

CREATE TABLE bisect_t (
	bisect INTEGER NOT NULL, 
	trace INTEGER NOT NULL, 
	kernel TEXT NOT NULL, 
	options TEXT NOT NULL, 
	mm INTEGER NOT NULL, 
	last INTEGER NOT NULL, 
	term_old TEXT NOT NULL, 
	term_new TEXT NOT NULL, 
	started_at TEXT NOT NULL, 
	CONSTRAINT pk_bisect_t PRIMARY KEY (bisect), 
	CONSTRAINT fk_bisect_t_trace FOREIGN KEY(trace) REFERENCES trace_t (trace)
);

CREATE TABLE bisect_mark_t (
	bisect INTEGER NOT NULL, 
	n INTEGER NOT NULL, 
	verdict TEXT NOT NULL, 
	low INTEGER NOT NULL, 
	high INTEGER NOT NULL, 
	source TEXT NOT NULL, 
	CONSTRAINT pk_bisect_mark_t PRIMARY KEY (bisect, n), 
	CONSTRAINT fk_bisect_mark_t_bisect FOREIGN KEY(bisect) REFERENCES bisect_t (bisect)
)
 WITHOUT ROWID

;

CREATE TABLE query_t (
	name TEXT NOT NULL, 
	sql TEXT NOT NULL, 
	created_at TEXT NOT NULL, 
	CONSTRAINT pk_query_t PRIMARY KEY (name)
);

CREATE TABLE chunk_t (
	trace INTEGER NOT NULL, 
	first_seq INTEGER NOT NULL, 
	last_seq INTEGER NOT NULL, 
	form TEXT NOT NULL, 
	hash BLOB NOT NULL, 
	digest BLOB NOT NULL, 
	payload BLOB NOT NULL, 
	CONSTRAINT pk_chunk_t PRIMARY KEY (trace, first_seq), 
	CONSTRAINT fk_chunk_t_trace FOREIGN KEY(trace) REFERENCES trace_t (trace)
);

CREATE TABLE task_t (
	task INTEGER NOT NULL, 
	pid INTEGER NOT NULL, 
	tid INTEGER NOT NULL, 
	CONSTRAINT pk_task_t PRIMARY KEY (task), 
	CONSTRAINT uq_task_t_pid_tid UNIQUE (pid, tid)
);

CREATE TABLE "event_t" (
	trace INTEGER NOT NULL, 
	seq INTEGER NOT NULL, 
	mm INTEGER NOT NULL, 
	task INTEGER NOT NULL, 
	ts BIGINT, 
	call INTEGER NOT NULL, 
	args TEXT NOT NULL, 
	result BIGINT, 
	errno INTEGER NOT NULL, 
	file INTEGER, 
	injected INTEGER NOT NULL, 
	site INTEGER, 
	line INTEGER, 
	source_offset BIGINT, 
	hash BLOB NOT NULL, 
	CONSTRAINT pk_event_new PRIMARY KEY (trace, seq), 
	CONSTRAINT fk_event_t_call FOREIGN KEY(call) REFERENCES call_t (call), 
	CONSTRAINT fk_event_t_trace FOREIGN KEY(trace) REFERENCES trace_t (trace), 
	CONSTRAINT fk_event_t_site FOREIGN KEY(site) REFERENCES site_t (site), 
	CONSTRAINT fk_event_t_task FOREIGN KEY(task) REFERENCES task_t (task)
)
 WITHOUT ROWID

;

CREATE TRIGGER event_t_no_update BEFORE UPDATE ON event_t BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

CREATE TRIGGER event_t_no_delete BEFORE DELETE ON event_t BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

CREATE TABLE outcome_t (
	replay INTEGER NOT NULL, 
	seq INTEGER NOT NULL, 
	mm INTEGER NOT NULL, 
	map_count INTEGER NOT NULL, 
	kind INTEGER NOT NULL, 
	CONSTRAINT pk_outcome_t PRIMARY KEY (replay, seq), 
	CONSTRAINT fk_outcome_t_replay FOREIGN KEY(replay) REFERENCES replay_t (replay)
)
 WITHOUT ROWID

;

CREATE TABLE outcome_kind_t (
	replay INTEGER NOT NULL, 
	kind INTEGER NOT NULL, 
	merges INTEGER NOT NULL, 
	splits INTEGER NOT NULL, 
	cases TEXT NOT NULL, 
	certain INTEGER NOT NULL, 
	divergence TEXT, 
	CONSTRAINT pk_outcome_kind_t PRIMARY KEY (replay, kind), 
	CONSTRAINT fk_outcome_kind_t_replay FOREIGN KEY(replay) REFERENCES replay_t (replay)
)
 WITHOUT ROWID

;

CREATE TABLE decision_t (
	replay INTEGER NOT NULL, 
	seq INTEGER NOT NULL, 
	n INTEGER NOT NULL, 
	mm INTEGER NOT NULL, 
	vm_start BIGINT NOT NULL, 
	vm_end BIGINT NOT NULL, 
	kind INTEGER NOT NULL, 
	CONSTRAINT pk_decision_t PRIMARY KEY (replay, seq, n), 
	CONSTRAINT fk_decision_t_replay FOREIGN KEY(replay) REFERENCES replay_t (replay)
)
 WITHOUT ROWID

;

CREATE TABLE decision_kind_t (
	replay INTEGER NOT NULL, 
	kind INTEGER NOT NULL, 
	api TEXT NOT NULL, 
	action TEXT NOT NULL, 
	"case" TEXT NOT NULL, 
	reason_prev TEXT, 
	reason_next TEXT, 
	certain INTEGER NOT NULL, 
	CONSTRAINT pk_decision_kind_t PRIMARY KEY (replay, kind), 
	CONSTRAINT fk_decision_kind_t_replay FOREIGN KEY(replay) REFERENCES replay_t (replay)
)
 WITHOUT ROWID

;

CREATE TABLE vma_t (
	replay INTEGER NOT NULL, 
	seq_node BIGINT NOT NULL, 
	n INTEGER NOT NULL, 
	mm INTEGER NOT NULL, 
	vm_start BIGINT NOT NULL, 
	vm_end BIGINT NOT NULL, 
	pgoff BIGINT NOT NULL, 
	kind INTEGER NOT NULL, 
	born_seq INTEGER NOT NULL, 
	died_seq INTEGER, 
	CONSTRAINT pk_vma_t PRIMARY KEY (replay, seq_node, n), 
	CONSTRAINT fk_vma_t_replay FOREIGN KEY(replay) REFERENCES replay_t (replay)
)
 WITHOUT ROWID

;

CREATE TABLE vma_kind_t (
	replay INTEGER NOT NULL, 
	kind INTEGER NOT NULL, 
	vm_flags BIGINT NOT NULL, 
	path TEXT, 
	name TEXT, 
	CONSTRAINT pk_vma_kind_t PRIMARY KEY (replay, kind), 
	CONSTRAINT fk_vma_kind_t_replay FOREIGN KEY(replay) REFERENCES replay_t (replay)
)
 WITHOUT ROWID

;

CREATE TABLE vma_page_t (
	replay INTEGER NOT NULL, 
	page_node BIGINT NOT NULL, 
	seq_node BIGINT NOT NULL, 
	n INTEGER NOT NULL, 
	CONSTRAINT pk_vma_page_t PRIMARY KEY (replay, page_node, seq_node, n), 
	CONSTRAINT fk_vma_page_t_replay FOREIGN KEY(replay) REFERENCES replay_t (replay)
)
 WITHOUT ROWID

;

CREATE TABLE rolling_t (
	replay INTEGER NOT NULL, 
	first_seq INTEGER NOT NULL, 
	payload BLOB NOT NULL, 
	CONSTRAINT pk_rolling_t PRIMARY KEY (replay, first_seq), 
	CONSTRAINT fk_rolling_t_replay FOREIGN KEY(replay) REFERENCES replay_t (replay)
);

INSERT INTO alembic_version (version_num) VALUES ('0008');
