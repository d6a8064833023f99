-- wrk runs for a time. Work that can be compared is a number of responses, so the last one of that many ends it; each
-- of them must be the file that the server was asked for.

local ffi = require("ffi")
ffi.cdef("int getpid(void); int kill(int pid, int sig);")
local SIGINT = 2

-- Code that is generated while it runs differs from run to run, with what it was that got hot.
jit.off()

local file = assert(io.open("/srv/index.html", "rb"))
local expected = file:read("*a")
file:close()
local left = 0

function init(args)
  left = tonumber(args[1])
end

function response(status, headers, body)
  if status ~= 200 or body ~= expected then
    error("status " .. status .. ", " .. #body .. " bytes")
  end
  left = left - 1
  if left == 0 then
    -- This thread ends its loop; the other sleeps for the rest of the time unless a signal wakes it.
    wrk.thread:stop()
    ffi.C.kill(ffi.C.getpid(), SIGINT)
  end
end
