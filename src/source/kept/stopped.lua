-- Whether a kept stream, or a request that waits for one, is to stop.
-- KEYS: its hash.
-- Returns why, in words, or nothing.
return redis.call('HMGET', KEYS[1], 'stop')[1] or ''
