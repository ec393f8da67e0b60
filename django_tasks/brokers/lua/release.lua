-- Gives back what was set aside for workers that are not going to reserve it now. Arguments: identities.
while position < #ARGV do
  local worker = argument()
  for i = 1, #lists do
    allow_all(i)
    empty_inbox(i, worker)
  end
end
