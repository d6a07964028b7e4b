-- What a user is called where a name is shown. Empty: by their name.
ALTER TABLE users ADD COLUMN display_name TEXT NOT NULL DEFAULT '';
