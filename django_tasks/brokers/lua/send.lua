-- Sends messages, all at once; one with a cause only once. Arguments: now, alive since, then for each what push() reads.
local now, alive_since = number(), argument()
while position < #ARGV do push(true, true, now, alive_since) end
