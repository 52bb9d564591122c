-- What the sandbox keeps, in SQLite. Binds are :name.

-- name: create_keys
-- API keys of the stand-in OpenAI.
CREATE TABLE IF NOT EXISTS api_keys (
    api_key TEXT PRIMARY KEY,
    created_at REAL NOT NULL
) STRICT;

-- name: create_usage
-- What was used of the stand-in OpenAI, by minute and model.
CREATE TABLE IF NOT EXISTS usage (
    minute INTEGER NOT NULL,
    model TEXT NOT NULL,
    requests INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    PRIMARY KEY (minute, model)
) STRICT;

-- name: create_users
-- Users of the stand-in WordPress.
CREATE TABLE IF NOT EXISTS users (
    user_id INTEGER PRIMARY KEY,
    login TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL CHECK (role IN ('administrator', 'editor', 'author', 'contributor', 'subscriber')),
    registered_at REAL NOT NULL
) STRICT;

-- name: create_application_passwords
-- Application passwords; the password is kept without its spaces.
CREATE TABLE IF NOT EXISTS application_passwords (
    uuid TEXT PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users,
    name TEXT NOT NULL,
    password TEXT NOT NULL,
    created_at REAL NOT NULL,
    last_used_at REAL,
    last_address TEXT
) STRICT;

-- name: create_terms
-- Categories and tags; names as WordPress stores them, with entities.
CREATE TABLE IF NOT EXISTS terms (
    term_id INTEGER PRIMARY KEY,
    taxonomy TEXT NOT NULL CHECK (taxonomy IN ('category', 'post_tag')),
    name TEXT NOT NULL,
    folded_name TEXT NOT NULL,
    slug TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    parent INTEGER NOT NULL DEFAULT 0,
    UNIQUE (taxonomy, slug)
) STRICT;

-- name: create_terms_folded_name
-- Look-ups by name, whatever its case.
CREATE INDEX IF NOT EXISTS terms_folded_name ON terms (taxonomy, folded_name);

-- name: create_terms_slug
-- Slugs are looked up in both taxonomies.
CREATE INDEX IF NOT EXISTS terms_slug ON terms (slug);

-- name: create_posts
-- Posts. Slugs are not unique, as in WordPress. Times are seconds since 1970 in UTC; `dated` says that somebody chose the date.
CREATE TABLE IF NOT EXISTS posts (
    post_id INTEGER PRIMARY KEY AUTOINCREMENT,
    author_id INTEGER NOT NULL,
    status TEXT NOT NULL,
    slug TEXT NOT NULL,
    slug_before_trash TEXT,
    title TEXT NOT NULL,
    content TEXT NOT NULL,
    excerpt TEXT NOT NULL,
    sticky INTEGER NOT NULL DEFAULT 0,
    dated INTEGER NOT NULL,
    date_at INTEGER NOT NULL,
    modified_at INTEGER NOT NULL
) STRICT;

-- name: create_posts_slug
-- Look-ups by slug.
CREATE INDEX IF NOT EXISTS posts_slug ON posts (slug);

-- name: create_posts_future
-- Posts that are due one day.
CREATE INDEX IF NOT EXISTS posts_future ON posts (date_at) WHERE status = 'future';

-- name: create_post_terms
-- Which post carries which term.
CREATE TABLE IF NOT EXISTS post_terms (
    post_id INTEGER NOT NULL REFERENCES posts ON DELETE CASCADE,
    term_id INTEGER NOT NULL REFERENCES terms ON DELETE CASCADE,
    PRIMARY KEY (post_id, term_id)
) STRICT, WITHOUT ROWID;

-- name: create_post_terms_term
-- Posts of a term.
CREATE INDEX IF NOT EXISTS post_terms_term ON post_terms (term_id);

-- name: create_late_writes
-- Requests whose work the site does later than it got them; they survive a restart.
CREATE TABLE IF NOT EXISTS late_writes (
    late_write_id INTEGER PRIMARY KEY,
    due_at REAL NOT NULL,
    login TEXT,
    method TEXT NOT NULL,
    target TEXT NOT NULL,
    content_type TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- name: create_faults
-- The faults that are on.
CREATE TABLE IF NOT EXISTS faults (
    fault_id INTEGER PRIMARY KEY,
    fault TEXT NOT NULL
) STRICT;

-- name: create_requests
-- The journal. `ended_at` is NULL while a request is under way; `status` is NULL when no answer was sent.
CREATE TABLE IF NOT EXISTS requests (
    request_id INTEGER PRIMARY KEY AUTOINCREMENT,
    started_at REAL NOT NULL,
    ended_at REAL,
    provider TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    query TEXT NOT NULL,
    user TEXT,
    status INTEGER,
    fault TEXT,
    model TEXT,
    topic TEXT,
    slug TEXT,
    post_id INTEGER,
    idempotency_key TEXT,
    body_bytes INTEGER NOT NULL,
    body_sha256 TEXT NOT NULL
) STRICT;

-- name: add_api_key
-- Accepts one more API key.
INSERT OR IGNORE INTO api_keys (api_key, created_at) VALUES (:api_key, :now);

-- name: remove_api_key
-- Accepts an API key no longer.
DELETE FROM api_keys WHERE api_key = :api_key;

-- name: list_api_keys
-- Every accepted API key.
SELECT api_key FROM api_keys;

-- name: add_usage
-- Counts one request.
INSERT INTO usage (minute, model, requests, input_tokens, output_tokens)
VALUES (:minute, :model, 1, :input_tokens, :output_tokens)
ON CONFLICT (minute, model) DO UPDATE SET
    requests = requests + 1,
    input_tokens = input_tokens + excluded.input_tokens,
    output_tokens = output_tokens + excluded.output_tokens;

-- name: usage_by_bucket
-- What was used between two moments, by bucket and model. Seconds since 1970.
SELECT :start + (minute * 60 - :start) / :width * :width AS start_time, model,
    sum(requests) AS requests, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens
FROM usage
WHERE minute * 60 >= :start AND minute * 60 < :end
GROUP BY 1, 2
ORDER BY 1, 2;

-- name: add_user
-- Makes a user, or gives an existing one another role.
INSERT INTO users (login, role, registered_at) VALUES (:login, :role, :now)
ON CONFLICT (login) DO UPDATE SET role = excluded.role;

-- name: find_user
-- A user by login.
SELECT user_id, login, role, registered_at FROM users WHERE login = :login;

-- name: find_user_by_id
-- A user by id.
SELECT user_id, login, role, registered_at FROM users WHERE user_id = :user_id;

-- name: list_users
-- Every user.
SELECT user_id, login, role, registered_at FROM users ORDER BY user_id;

-- name: add_application_password
-- Makes an application password.
INSERT INTO application_passwords (uuid, user_id, name, password, created_at)
VALUES (:uuid, :user_id, :name, :password, :now);

-- name: list_application_passwords
-- A user's application passwords, oldest first.
SELECT uuid, user_id, name, password, created_at, last_used_at, last_address
FROM application_passwords
WHERE user_id = :user_id
ORDER BY rowid;

-- name: touch_application_password
-- Notes that a password was used; once a day is enough, as in WordPress.
UPDATE application_passwords
SET last_used_at = :now, last_address = :address
WHERE uuid = :uuid;

-- name: remove_application_password
-- Revokes an application password.
DELETE FROM application_passwords WHERE uuid = :uuid AND user_id = :user_id;

-- name: add_term
-- Makes a term.
INSERT INTO terms (taxonomy, name, folded_name, slug, description, parent)
VALUES (:taxonomy, :name, :folded_name, :slug, :description, :parent);

-- name: change_term
-- Changes a term.
UPDATE terms
SET name = :name, folded_name = :folded_name, slug = :slug, description = :description, parent = :parent
WHERE term_id = :term_id;

-- name: remove_term
-- Removes a term; posts lose it.
DELETE FROM terms WHERE term_id = :term_id;

-- name: lift_child_terms
-- The children of a term that goes come under its parent.
UPDATE terms SET parent = :parent WHERE parent = :term_id;

-- name: list_terms
-- Every term of a taxonomy, with the number of its published posts.
SELECT term_id, taxonomy, name, slug, description, parent, (
    SELECT count(*)
    FROM post_terms
    JOIN posts USING (post_id)
    WHERE post_terms.term_id = terms.term_id AND posts.status = 'publish'
) AS count
FROM terms
WHERE taxonomy = :taxonomy
ORDER BY term_id;

-- name: find_term
-- One term of a taxonomy.
SELECT term_id, taxonomy, name, slug, description, parent, (
    SELECT count(*)
    FROM post_terms
    JOIN posts USING (post_id)
    WHERE post_terms.term_id = terms.term_id AND posts.status = 'publish'
) AS count
FROM terms
WHERE taxonomy = :taxonomy AND term_id = :term_id;

-- name: find_terms_named
-- The terms of a taxonomy under a name.
SELECT term_id, parent, slug FROM terms WHERE taxonomy = :taxonomy AND folded_name = :folded_name ORDER BY term_id;

-- name: list_term_ids
-- What there is, without counting posts.
SELECT term_id, taxonomy, name, slug FROM terms WHERE taxonomy = :taxonomy;

-- name: count_slug_of_terms
-- Whether any term has a slug.
SELECT count(*) FROM terms WHERE slug = :slug;

-- name: terms_of_post
-- The terms of a post, by taxonomy and name as WordPress orders them.
SELECT terms.term_id, terms.taxonomy, terms.slug
FROM post_terms
JOIN terms USING (term_id)
WHERE post_terms.post_id = :post_id
ORDER BY terms.name COLLATE NOCASE, terms.term_id;

-- name: posts_only_in_term
-- Posts whose only category is the one that goes.
SELECT post_id
FROM post_terms
WHERE term_id = :term_id AND NOT EXISTS (
    SELECT 1
    FROM post_terms AS other
    JOIN terms ON terms.term_id = other.term_id AND terms.taxonomy = 'category'
    WHERE other.post_id = post_terms.post_id AND other.term_id <> :term_id
);

-- name: add_post_term
-- Gives a post a term.
INSERT OR IGNORE INTO post_terms (post_id, term_id) VALUES (:post_id, :term_id);

-- name: remove_post_terms
-- Takes all terms of a taxonomy from a post.
DELETE FROM post_terms
WHERE post_id = :post_id AND term_id IN (SELECT term_id FROM terms WHERE taxonomy = :taxonomy);

-- name: add_post
-- Makes a post.
INSERT INTO posts (author_id, status, slug, title, content, excerpt, sticky, dated, date_at, modified_at)
VALUES (:author_id, :status, :slug, :title, :content, :excerpt, :sticky, :dated, :date_at, :modified_at);

-- name: change_post
-- Changes a post.
UPDATE posts
SET author_id = :author_id,
    status = :status,
    slug = :slug,
    slug_before_trash = :slug_before_trash,
    title = :title,
    content = :content,
    excerpt = :excerpt,
    sticky = :sticky,
    dated = :dated,
    date_at = :date_at,
    modified_at = :modified_at
WHERE post_id = :post_id;

-- name: remove_post
-- Removes a post for good.
DELETE FROM posts WHERE post_id = :post_id;

-- name: find_post
-- One post.
SELECT * FROM posts WHERE post_id = :post_id;

-- name: count_slug_of_posts
-- Whether another post has a slug, whatever its status.
SELECT count(*) FROM posts WHERE slug = :slug AND post_id <> :post_id;

-- name: publish_due_posts
-- Publishes the posts whose date has come.
UPDATE posts SET status = 'publish' WHERE status = 'future' AND date_at <= :now;

-- name: list_posts
-- Posts by the filters of WordPress's collection; each filter is a JSON list, or NULL for none.
SELECT *
FROM posts
WHERE status IN (SELECT value FROM json_each(:statuses))
    AND (:slugs IS NULL OR slug IN (SELECT value FROM json_each(:slugs)))
    AND (:include IS NULL OR post_id IN (SELECT value FROM json_each(:include)))
    AND (:exclude IS NULL OR post_id NOT IN (SELECT value FROM json_each(:exclude)))
    AND (:authors IS NULL OR author_id IN (SELECT value FROM json_each(:authors)))
    AND (:words IS NULL OR NOT EXISTS (
        SELECT 1
        FROM json_each(:words)
        WHERE instr(lower(title || ' ' || excerpt || ' ' || content), value) = 0
    ))
    AND (:categories IS NULL OR EXISTS (
        SELECT 1 FROM post_terms
        WHERE post_terms.post_id = posts.post_id AND term_id IN (SELECT value FROM json_each(:categories))
    ))
    AND (:tags IS NULL OR EXISTS (
        SELECT 1 FROM post_terms
        WHERE post_terms.post_id = posts.post_id AND term_id IN (SELECT value FROM json_each(:tags))
    ))
    AND (:after IS NULL OR date_at > :after)
    AND (:before IS NULL OR date_at < :before)
ORDER BY date_at DESC, post_id DESC;

-- name: list_posts_by_slugs
-- Posts under any of some slugs, through the index: the look-up that a publisher makes most.
SELECT *
FROM posts
WHERE slug IN (SELECT value FROM json_each(:slugs)) AND status IN (SELECT value FROM json_each(:statuses))
ORDER BY date_at DESC, post_id DESC;

-- name: list_all_posts
-- Every post with the names of its terms, as tests look at them.
SELECT posts.*, users.login AS author, (
    SELECT json_group_array(name)
    FROM post_terms
    JOIN terms USING (term_id)
    WHERE post_terms.post_id = posts.post_id AND taxonomy = 'category'
) AS category_names, (
    SELECT json_group_array(name)
    FROM post_terms
    JOIN terms USING (term_id)
    WHERE post_terms.post_id = posts.post_id AND taxonomy = 'post_tag'
) AS tag_names
FROM posts
LEFT JOIN users ON users.user_id = posts.author_id
WHERE post_id > :after_id
ORDER BY post_id;

-- name: add_late_write
-- Keeps a request whose work is done later.
INSERT INTO late_writes (due_at, login, method, target, content_type, body)
VALUES (:due_at, :login, :method, :target, :content_type, :body);

-- name: list_late_writes
-- Requests whose work is not done yet.
SELECT * FROM late_writes ORDER BY due_at, late_write_id;

-- name: remove_late_write
-- The work of a late request is done.
DELETE FROM late_writes WHERE late_write_id = :late_write_id;

-- name: add_fault
-- Turns a fault on.
INSERT INTO faults (fault) VALUES (:fault);

-- name: change_fault
-- Keeps how often a fault still strikes.
UPDATE faults SET fault = :fault WHERE fault_id = :fault_id;

-- name: remove_fault
-- Turns a fault off.
DELETE FROM faults WHERE fault_id = :fault_id;

-- name: list_faults
-- The faults that are on, in the order in which they were set.
SELECT fault_id, fault FROM faults ORDER BY fault_id;

-- name: begin_request
-- Notes a request when it has come.
INSERT INTO requests (started_at, provider, method, path, query, idempotency_key, body_bytes, body_sha256)
VALUES (:now, :provider, :method, :path, :query, :idempotency_key, :body_bytes, :body_sha256);

-- name: end_request
-- Notes what became of a request.
UPDATE requests
SET ended_at = :now,
    status = :status,
    fault = :fault,
    user = :user,
    model = :model,
    topic = :topic,
    slug = :slug,
    post_id = :post_id
WHERE request_id = :request_id;

-- name: list_requests
-- The journal after a request, oldest first.
SELECT *
FROM requests
WHERE request_id > :after_id AND (:provider IS NULL OR provider = :provider)
ORDER BY request_id
LIMIT :limit;

-- name: forget_requests
-- Keeps the journal bounded.
DELETE FROM requests WHERE request_id <= :until_id;

-- name: clear_requests
-- Empties the journal.
DELETE FROM requests;

-- name: clear_posts
-- Removes every post.
DELETE FROM posts;

-- name: clear_post_terms
-- And what they carried.
DELETE FROM post_terms;

-- name: clear_late_writes
-- And what was still to be done.
DELETE FROM late_writes;

-- name: clear_tags
-- And every tag.
DELETE FROM terms WHERE taxonomy = 'post_tag';
