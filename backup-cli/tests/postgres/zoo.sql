-- One of everything that a schema can have and a dump can get wrong.
CREATE ROLE zoo_owner NOLOGIN;
CREATE ROLE "zoo; ""reader""" LOGIN PASSWORD 'not a secret';
GRANT zoo_owner TO "zoo; ""reader""";
CREATE EXTENSION IF NOT EXISTS plpgsql;
CREATE SCHEMA "Odd Schema; ""quoted""" AUTHORIZATION zoo_owner;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s "fine"');
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE TYPE pair AS (a integer, b text);
CREATE FUNCTION twice(n integer) RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT n * 2 $$;

CREATE TABLE everything (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL CHECK (name IN ('a', 'b', 'c', 'd')),
  doubled integer GENERATED ALWAYS AS (length(name) * 2) STORED,
  mood mood DEFAULT 'ok',
  size positive,
  pair pair,
  tags text[] DEFAULT '{}',
  matrix integer[][],
  span int4range,
  spans tsrange,
  document jsonb,
  raw bytea,
  address inet,
  at timestamptz,
  "when" interval,
  amount numeric(20, 6),
  ratio double precision,
  token uuid,
  xpath point,
  bits bit varying(12),
  words tsvector
);
INSERT INTO everything (name, mood, size, pair, tags, matrix, span, spans, document, raw, address, at, "when", amount, ratio, token, xpath, bits, words)
SELECT substr('abcd', 1 + n % 4, 1), 'sad', n, (n, E'tab\there, line\nthere, back\\slash')::pair, ARRAY['x', NULL, 'y "z"'],
  ARRAY[[n, 2], [3, 4]], int4range(n, n + 10), tsrange('2020-01-01', NULL), jsonb_build_object('n', n, 'ünï', E'\t"'),
  decode(md5(n::text), 'hex'), '192.168.0.0/24', timestamptz '2024-03-31 01:30:00+01' + n * interval '1 hour', interval '1 mon 2 days',
  n / 7.0, n / 3.0, md5(n::text)::uuid, point(n, -n), B'1010', to_tsvector('english', 'dogs and cats')
FROM generate_series(1, 1000) AS n;
INSERT INTO everything (name, ratio, raw) VALUES ('a', 'NaN', ''), ('b', '-Infinity', NULL), ('c', -0.0, '\x00');
CREATE INDEX everything_partial ON everything (lower(name), size DESC NULLS LAST) WHERE mood <> 'ok';
CREATE INDEX everything_gin ON everything USING gin (document);
CREATE UNIQUE INDEX everything_expression ON everything ((id + 1)) INCLUDE (name);

CREATE TABLE measured (at date NOT NULL, site integer NOT NULL, value real) PARTITION BY RANGE (at);
CREATE TABLE measured_2023 PARTITION OF measured FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
CREATE TABLE measured_2024 PARTITION OF measured FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY HASH (site);
CREATE TABLE measured_2024_0 PARTITION OF measured_2024 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE measured_2024_1 PARTITION OF measured_2024 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE measured_rest (value real, site integer NOT NULL, gone text, at date NOT NULL);
ALTER TABLE measured_rest DROP COLUMN gone;
ALTER TABLE measured ATTACH PARTITION measured_rest DEFAULT;
CREATE INDEX ON measured (site);
INSERT INTO measured SELECT date '2023-06-01' + n, n, n FROM generate_series(1, 900) AS n;

CREATE TABLE parent (a integer, b text);
CREATE TABLE heir (c integer) INHERITS (parent);
ALTER TABLE parent ADD COLUMN d text DEFAULT 'later';
INSERT INTO parent SELECT n, 'p' || n FROM generate_series(1, 10) n;
INSERT INTO heir SELECT n, 'h' || n, n, 'd' || n FROM generate_series(1, 10) n;

CREATE TABLE left_side (id integer PRIMARY KEY, right_id integer);
CREATE TABLE right_side (id integer PRIMARY KEY, left_id integer REFERENCES left_side DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE left_side ADD CONSTRAINT "cycle" FOREIGN KEY (right_id) REFERENCES right_side DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE left_side ADD CONSTRAINT not_yet CHECK (id > 0) NOT VALID;
BEGIN;
INSERT INTO left_side SELECT n, n FROM generate_series(1, 50) n;
INSERT INTO right_side SELECT n, n FROM generate_series(1, 50) n;
COMMIT;

CREATE TABLE "Odd Schema; ""quoted"""."Order "" by; --" ("select" text, "ä ö" text, "tab	here" text);
INSERT INTO "Odd Schema; ""quoted"""."Order "" by; --" VALUES (E'\\.', E'\\N', NULL), ('', E'line\r\nend', E'\\');
ALTER TABLE "Odd Schema; ""quoted"""."Order "" by; --" OWNER TO zoo_owner;
GRANT SELECT ON "Odd Schema; ""quoted"""."Order "" by; --" TO "zoo; ""reader""";
COMMENT ON TABLE everything IS 'it''s; a "comment"';

CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES;
INSERT INTO no_columns DEFAULT VALUES;
CREATE UNLOGGED TABLE unlogged (n integer);
INSERT INTO unlogged VALUES (1);

CREATE VIEW cheerful AS SELECT e.id, e.name, twice(e.size) AS twice FROM everything e WHERE e.mood IN ('ok', 'sad') WITH CASCADED CHECK OPTION;
CREATE MATERIALIZED VIEW totals AS SELECT name, count(*) AS n FROM everything GROUP BY name;
CREATE UNIQUE INDEX ON totals (name);
CREATE SEQUENCE counter START 5 INCREMENT BY -3 MINVALUE -1000 MAXVALUE 100 CYCLE;
SELECT nextval('counter'), nextval('counter');
CREATE SEQUENCE untouched;

CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN NEW.b := coalesce(NEW.b, 'noted'); RETURN NEW; END $body$;
CREATE TRIGGER note BEFORE INSERT ON parent FOR EACH ROW WHEN (NEW.a > 100) EXECUTE FUNCTION note();
CREATE RULE quiet AS ON DELETE TO heir DO INSTEAD NOTHING;
ALTER TABLE parent ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON parent FOR SELECT TO zoo_owner USING (a > 5);
CREATE PROCEDURE nothing() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE biggest(integer) (sfunc = int4larger, stype = integer);
CREATE OPERATOR === (leftarg = integer, rightarg = integer, function = int4eq);
CREATE COLLATION plain (provider = libc, locale = 'C');
CREATE TABLE collated (t text COLLATE plain);
CREATE STATISTICS together (dependencies) ON site, value FROM measured_2023;
CREATE FUNCTION watched() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('CREATE TYPE') EXECUTE FUNCTION watched();
CREATE PUBLICATION everything_new FOR TABLE everything;
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER far FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE remote (a integer) SERVER far;

SELECT lo_from_bytea(4711, decode(repeat('00ff5c0a', 5000), 'hex'));
SELECT lo_from_bytea(4712, '');
SELECT lo_from_bytea(2947483648, 'a number over the half of 32 bits');
COMMENT ON LARGE OBJECT 4711 IS 'large';
