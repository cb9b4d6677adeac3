-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.plugins.revocation: asks whether a client's certificates are revoked: OCSP responders
-- (RFC 6960), and the distribution points of revocation lists (RFC 5280).
--
-- What was answered is in a lua_shared_dict, for all workers; or else each has its own. A certificate is a question to OCSP
-- responders and to distribution points; each is a "source" below, with a key of its own in the
-- dict. An answer that is not there, or does not count any more, is fetched; a dict that is full, or
-- was emptied, so means that it is fetched again.

local natives = ...

local bounded = require "resty.kong.plugins.bounded"
local fetch = require "resty.kong.plugins.fetch"
local functions = require "resty.kong.tls.functions"
local mistakes = require "resty.kong.tls.mistakes"
local semaphore = require "ngx.semaphore"
local worker_dict = require "resty.kong.plugins.worker_dict"
local is_given = require("resty.kong.tls.values").is_given

local type = type
local next = next
local pairs = pairs
local ipairs = ipairs
local min = math.min
local max = math.max
local pcall = pcall
local tonumber = tonumber
local tostring = tostring
local setmetatable = setmetatable
local about = mistakes.about
local clocks, still_holds = functions.clocks, functions.still_holds
local count_cache = functions.count_cache

-- The default of http_timeout in milliseconds.
local TIMEOUT = 30000
-- The maximum sizes of an answer and of a revocation list, in bytes.
local MAX_ANSWER, MAX_LIST = 64 * 1024, 16 * 1024 * 1024
-- An answer that is in use is fetched again when half of its time is over, or after this time at the
-- latest; one that does not know the certificate, much sooner. In milliseconds.
local REFRESH, REFRESH_UNKNOWN = 3600 * 1000, 30 * 1000
-- The time after which an answer is fetched again if one came that was older, in milliseconds.
local REFRESH_OLDER = 300 * 1000
-- The time after which no answer counts, whatever it says, in milliseconds.
local MAX_AGE = 7 * 24 * 3600 * 1000
-- The seconds by which the clock of an authority may be ahead (src/openssl/issuer.rs).
local SKEW = 60
-- The time after which it is tried again what has failed, and that after which it is forgotten. In
-- between, one tries, and all others need not wait. In milliseconds.
local FAILURE, FORGET = 10 * 1000, 600 * 1000
-- The seconds for which the dict keeps what does not count any more: it may say "revoked".
local STALE = 30 * 24 * 3600
-- How often a worker looks whether another one has fetched an answer, in seconds.
local POLL = 0.02
-- The maximum numbers of answers that a worker fetches at a time, from one URL, and of those that
-- wait.
local RUNNING, FROM_URL, WAITING = 64, 16, 4096
-- The time after which the certificates of a chain are determined again, in milliseconds.
local CHAIN = 600 * 1000

-- The limits of a worker's chains, and the estimated size of one besides its texts, in bytes.
local CACHE = "revocation"
local CHAINS, BYTES = 4096, 32 * 1024 * 1024
local CERTIFICATE = 6 * 1024

-- The lists that a worker has used, which were checked before they were put into the dict: what
-- src/openssl/crl.rs makes of them. The estimated size of one besides, in bytes.
local LISTS = "revocation_lists"
local LIST = 300
local lists = bounded.new(LISTS, 1024, 64 * 1024 * 1024)

local NO_ANSWER = "certificate status not available"
local REASONS = { revoked = "certificate revoked", unknown = "certificate unknown to its OCSP responder" }

local M = {}


-- ---- what the dict has --------------------------------------------------------------------------

-- Times in the dict are by the monotonic clock, which all workers share: what a dict forgets by
-- itself depends on the date, which may be set.

-- Notes a text, until `milliseconds` are over.
local function note(dict, key, text, milliseconds)
    local monotonic = clocks()
    return dict:set(key, ("%d %s"):format(monotonic + milliseconds, text), milliseconds / 1000)
end


-- Returns a text that was noted, if its time is not over.
local function noted(dict, key)
    local value = dict:get(key)
    if type(value) ~= "string" then
        return nil
    end
    local ends, text = value:match("^(%d+) (.*)$")
    -- No time is longer than that of MAX_AGE: a greater one is of another boot.
    local left = ends and tonumber(ends) - clocks() or 0
    return left > 0 and left <= MAX_AGE and text or nil
end


-- An answer: its status, or the version of the list; the dates between which it counts, in seconds;
-- the time when it was fetched, by both clocks, and when to fetch it again.
local function encode(answer)
    return ("%s %d %d %d %d %d"):format(answer.status, answer.since, answer.ends, answer.monotonic, answer.date,
                                        answer.refresh)
end


local function decode(text)
    local status, since, ends, monotonic, date, refresh =
        (type(text) == "string" and text or ""):match("^(%S+) (%-?%d+) (%-?%d+) (%d+) (%d+) (%d+)$")
    return status and {
        status = status, since = tonumber(since), ends = tonumber(ends),
        monotonic = tonumber(monotonic), date = tonumber(date), refresh = tonumber(refresh),
    }
end


-- Returns whether an answer counts now. It does not last longer if the date is set back.
local function counts(answer, monotonic, date)
    local passed = monotonic - answer.monotonic
    return passed >= 0 and passed < min(MAX_AGE, answer.ends * 1000 - answer.date)
        and date < answer.ends * 1000 and date >= (answer.since - SKEW) * 1000
end


-- Returns what an answer says of a certificate; nil if the list is not there any more.
local function status_of(self, source, answer)
    if source.kind == "ocsp" then
        return answer.status
    end
    local list = lists:get(source.key)
    local is_known = list and list.version == answer.status
    count_cache(LISTS, is_known and functions.HIT or functions.MISS)
    if not is_known then
        local value = self.dict:get("list " .. source.key)
        local prefix = answer.status .. " "
        if type(value) ~= "string" or value:sub(1, #prefix) ~= prefix then
            return nil
        end
        list = { version = answer.status, digest = value:sub(#prefix + 1) }
        lists:set(source.key, list, LIST + #list.digest)
    end
    return natives.crl_status(list.digest, source.certificate)
end


-- ---- fetching -----------------------------------------------------------------------------------

-- What to do about an error.
local REMEDIES = {
    { "no resolver defined", "give the directive resolver, which names need" },
    { "could not be resolved", "does the resolver know the name?" },
    { "no memory", "make the lua_shared_dict of revocation_dict larger" },
}


-- Logs that something could not be fetched: one line for each URL and while, whichever worker it is.
local function report(self, url, subject, err)
    if noted(self.dict, "logged " .. url) then
        return
    end
    note(self.dict, "logged " .. url, "", FAILURE)
    local remedy = ""
    for _, known in ipairs(REMEDIES) do
        if err:find(known[1], 1, true) then
            remedy = " (" .. known[2] .. ")"
        end
    end
    -- What it says may come from anywhere.
    local text = (url .. ": " .. err):sub(1, 1024):gsub("%c", "?")
    ngx.log(ngx.ERR, "revocation: ", text, remedy, "; certificate ", subject, "; clients whose status is not available are ",
            self.is_strict and "refused" or "let in")
end


-- Returns why the server of a URL can't be reached, unless it is time to try again: then one does, which
-- takes `milliseconds`.
local function is_down(self, url, milliseconds)
    local place = self.route .. url
    local reason = noted(self.dict, "down " .. place)
    if reason then
        if noted(self.dict, "tried " .. place) then
            return reason
        end
        note(self.dict, "tried " .. place, "", max(milliseconds, 0) + FAILURE)
    end
end


-- Notes why the server of a URL can't be reached; or that it can be, without a reason.
local function set_down(self, url, reason)
    local place = self.route .. url
    if reason then
        note(self.dict, "tried " .. place, "", FAILURE)
        note(self.dict, "down " .. place, reason, FORGET)
    elseif noted(self.dict, "down " .. place) then
        self.dict:delete("down " .. place)
    end
end


-- Fetches from one of the URLs of a source, and checks the answer with `check`, which returns its
-- first result or nil and an error. Returns the results of `check`; or nil and what went wrong.
local function from_urls(self, source, limit, make_body, check)
    local deadline = clocks() + self.timeout
    local failed
    for index, url in ipairs(source.urls) do
        local left = deadline - clocks()
        local down = is_down(self, url, left)
        if left <= 0 then
            return nil, failed or url .. ": timeout"
        elseif down then
            failed = url .. ": " .. down
        else
            local body, err = make_body()
            local answer, is_of_server
            if not err then
                answer, err, is_of_server = fetch.fetch {
                    url = url,
                    timeout = left / (#source.urls - index + 1),
                    limit = limit,
                    proxy = self.proxy,
                    body = body,
                    content_type = "application/ocsp-request",
                }
            end
            set_down(self, url, is_of_server and err)
            if answer then
                local first, second, third, fourth = check(answer, body)
                if first then
                    natives.count(source.kind, false)
                    return first, second, third, fourth
                end
                err = second
            end
            natives.count(source.kind, true)
            report(self, url, source.subject, err)
            failed = url .. ": " .. err
        end
    end
    return nil, failed
end


local function fetch_ocsp(self, source)
    return from_urls(self, source, MAX_ANSWER, function()
        return natives.ocsp_request(source.certificate, source.issuer)
    end, function(answer, request)
        return natives.ocsp_check(source.certificate, source.issuer, request, answer)
    end)
end


local versions = 0

local function fetch_crl(self, source)
    versions = versions + 1
    local version = ("%d-%d-%d"):format(clocks(), ngx.worker.pid(), versions)
    return from_urls(self, source, MAX_LIST, function() end, function(list)
        local digest, since, ends = natives.crl_check(source.certificate, source.issuer, list)
        if not digest then
            return nil, since
        end
        return version, since, ends, digest
    end)
end


-- Returns whether an answer may not follow the one that is known: who is on the way can send again what
-- was said before a certificate was revoked.
local function goes_back(self, source, known, status, since)
    if source.kind == "ocsp" then
        return known.status == "revoked" and status ~= "revoked" and since <= known.since
    end
    return since < known.since and status_of(self, source, known) ~= nil
end


-- Fetches the answer of a source, and puts it in the dict. Returns nil and what went wrong if that
-- fails.
local function renew(self, source)
    local status, since, ends, digest
    if source.kind == "ocsp" then
        status, since, ends = fetch_ocsp(self, source)
    else
        status, since, ends, digest = fetch_crl(self, source)
    end
    if not status then
        return nil, since
    end
    local monotonic, date = clocks()
    local answer = { status = status, since = since, ends = ends, monotonic = monotonic, date = date }
    local most = status == "unknown" and REFRESH_UNKNOWN or REFRESH
    local known = decode(self.dict:get("answer " .. source.key))
    if known and goes_back(self, source, known, status, since) then
        if not counts(known, monotonic, date) then
            local err = "it is older than the answer before"
            report(self, source.urls[1], source.subject, err)
            return nil, err
        end
        -- Servers of one authority may differ for a while: that is no failure.
        answer, digest, most = known, nil, REFRESH_OLDER
    end
    local left = max(answer.ends * 1000 - date, 0)
    answer.refresh = monotonic + max(min(left / 2, most), 1000)
    local seconds = min(left, MAX_AGE) / 1000 + STALE
    local ok, err = true, nil
    if digest then
        ok, err = self.dict:set("list " .. source.key, status .. " " .. digest, seconds)
    end
    if ok then
        ok, err = self.dict:set("answer " .. source.key, encode(answer), seconds)
    end
    if not ok then
        err = self.place .. ": " .. err
        report(self, source.urls[1], source.subject, err)
        return nil, err
    end
    return true
end


-- Fetches the answer of a source, and notes it if that fails.
local function renew_and_note(self, source)
    local ran, ok, err = pcall(renew, self, source)
    if not ran then
        ngx.log(ngx.ERR, "revocation: ", ok)
        ok, err = nil, "internal error"
    end
    local key = self.route .. source.key
    if not ok then
        note(self.dict, "failed " .. key, err, FAILURE)
        note(self.dict, "failing " .. key, err, FORGET)
    elseif noted(self.dict, "failing " .. key) then
        self.dict:delete("failing " .. key)
    end
end


-- Takes the lock of a source, which one worker at a time has; it ends with the time for fetching.
local function lock(self, source)
    local key, owner = "lock " .. source.key, ngx.worker.pid()
    if noted(self.dict, key) then
        return false
    end
    local monotonic = clocks()
    local value = ("%d %d"):format(monotonic + self.timeout + 1000, owner)
    if self.dict:add(key, value, self.timeout / 1000 + 1) then
        return true
    end
    -- Another worker was faster; or the date was set back, and the dict keeps a lock that has ended.
    return not noted(self.dict, key) and self.dict:set(key, value, self.timeout / 1000 + 1)
end


local function unlock(self, source)
    local key = "lock " .. source.key
    if noted(self.dict, key) == tostring(ngx.worker.pid()) then
        self.dict:delete(key)
    end
end


-- Has the answer of a source in the dict, or a failure: fetches it, or waits for the worker that
-- does.
local function run(task)
    local self, source = task.policy, task.source
    while true do
        local text = self.dict:get("answer " .. source.key)
        local answer = decode(text)
        local monotonic, date = clocks()
        if answer and text ~= task.seen and counts(answer, monotonic, date) then
            return
        elseif noted(self.dict, "failed " .. self.route .. source.key) then
            return
        elseif lock(self, source) then
            -- Another worker may have been done since.
            if self.dict:get("answer " .. source.key) == text then
                renew_and_note(self, source)
            end
            unlock(self, source)
            return
        elseif task.is_refresh or monotonic > task.deadline then
            return
        end
        ngx.sleep(POLL)
    end
end


-- ---- the tasks of a worker ----------------------------------------------------------------------

-- Answers are fetched in timers: a request whose client goes away would take the answer with it.
-- The tasks by key, and those that no timer has begun yet; the timers, with when they last began one;
-- and the number of tasks that a timer has begun, by URL.
local tasks, waiting = {}, {}
local timers, timer_count = {}, 0
local of_url = {}


local function end_task(task)
    task.is_done = true
    if tasks[task.key] == task then
        tasks[task.key] = nil
    end
    local waiters = -task.semaphore:count()
    if waiters > 0 then
        task.semaphore:post(waiters)
    end
end


-- Returns a task to begin with: slow servers leave room for others.
local function next_task()
    for index, task in ipairs(waiting) do
        if (of_url[task.url] or 0) < FROM_URL then
            return table.remove(waiting, index)
        end
    end
end


-- Runs tasks until there are none. The worker may be about to end, which waits for its requests.
local function run_tasks(_, timer)
    local task = next_task()
    while task do
        timers[timer] = timers[timer] and task.deadline
        of_url[task.url] = (of_url[task.url] or 0) + 1
        local ok, err = pcall(run, task)
        if not ok then
            ngx.log(ngx.ERR, "revocation: ", err)
        end
        local count = of_url[task.url] - 1
        of_url[task.url] = count > 0 and count or nil
        end_task(task)
        task = next_task()
    end
    if timers[timer] then
        timers[timer] = nil
        timer_count = timer_count - 1
    end
end


-- Forgets timers that nginx has not run, or has ended.
local function forget_timers(monotonic)
    for timer, deadline in pairs(timers) do
        if monotonic > deadline + FORGET then
            timers[timer] = nil
            timer_count = timer_count - 1
        end
    end
end


-- Begins to fetch the answer of a source, unless this worker does that already. `seen` is the text of
-- an answer that is to be replaced; `is_refresh` says that it still counts, so that nothing is done
-- if another worker replaces it. Returns the task; or nil and an error.
local function begin(self, source, seen, is_refresh)
    local key = self.dict_name .. " " .. source.key
    local monotonic = clocks()
    local task = tasks[key]
    if task and monotonic <= task.deadline + 1000 then
        return task
    end
    if #waiting >= WAITING then
        return nil, "too many certificates are checked at a time"
    end
    local made, err = semaphore.new(0)
    if not made then
        return nil, err
    end
    task = {
        key = key, url = source.urls[1], policy = self, source = source, seen = seen, is_refresh = is_refresh, semaphore = made,
        deadline = monotonic + self.timeout,
    }
    tasks[key] = task
    waiting[#waiting + 1] = task
    if timer_count >= RUNNING then
        forget_timers(monotonic)
    end
    if timer_count < RUNNING then
        local timer = {}
        local ok
        ok, err = ngx.timer.at(0, run_tasks, timer)
        if ok then
            timers[timer] = task.deadline
            timer_count = timer_count + 1
        elseif timer_count == 0 then
            waiting[#waiting] = nil
            tasks[key] = nil
            return nil, err
        end
    end
    return task
end


-- ---- the status of a certificate ----------------------------------------------------------------

-- Returns what a source says of its certificate, and the date until which that counts; or nil and
-- why it says nothing. May wait for the time of an HTTP request.
local function ask(self, source)
    local deadline = clocks() + self.timeout
    local err
    while true do
        local text = self.dict:get("answer " .. source.key)
        local answer = decode(text)
        local monotonic, date = clocks()
        local status
        if answer and counts(answer, monotonic, date) then
            status = status_of(self, source, answer)
        end
        local failure = noted(self.dict, "failed " .. self.route .. source.key)
        if status then
            if monotonic >= answer.refresh and not failure then
                begin(self, source, text, true)
            end
            -- Until it has to be fetched again.
            return status, min(answer.ends, (date + max(answer.refresh - monotonic, 1000)) / 1000)
        end
        if not failure and not err then
            failure = noted(self.dict, "failing " .. self.route .. source.key)
            if failure then
                begin(self, source, text, true)
            end
        end
        err = failure or err
        if failure or err or monotonic >= deadline then
            -- What was revoked stays so, for all that is known.
            if answer and status_of(self, source, answer) == "revoked" then
                return "revoked", 1 / 0
            end
            return nil, err or "timeout"
        end
        local task
        -- An answer may be there whose list is not.
        task, err = begin(self, source, answer and text, false)
        if task and not task.is_done then
            local ok, wrong = task.semaphore:wait(max(deadline - monotonic, 1) / 1000)
            err = not ok and wrong or nil
        end
    end
end


-- Returns the URLs among these that can be fetched.
local function fetchable(urls)
    local good = {}
    for _, url in ipairs(urls) do
        if fetch.parse(url) then
            good[#good + 1] = url
        end
    end
    return good
end


-- Returns the sources of what is known of a certificate, OCSP first.
local function sources_of(self, certificate, issuer)
    local subject = certificate.subject or "?"
    local sources = { subject = subject }
    local function add(kind, key, urls)
        if #urls > 0 then
            sources[#sources + 1] = {
                kind = kind, key = key, urls = urls, certificate = certificate, issuer = issuer, subject = subject,
            }
        end
    end
    local id, of_ocsp, scope, of_lists, err
    id, err = natives.id(certificate, issuer)
    if not err then
        of_ocsp, err = natives.ocsp_urls(certificate)
    end
    if not err then
        scope, err = natives.crl_scope(certificate, issuer)
    end
    if not err then
        of_lists, err = natives.crl_urls(certificate)
    end
    if err then
        return nil, err
    end
    add("ocsp", "ocsp " .. id .. (self.responder or ""), self.responder and { self.responder } or fetchable(of_ocsp))
    add("crl", "crl " .. scope, fetchable(of_lists))
    return sources
end


-- Returns the certificates of a chain that can be revoked, each as its sources; or nil and an error.
local function certificates_of(self, presented, parse)
    local chain, err = parse(presented)
    if not chain then
        return nil, err
    end
    local ok, reason, _, verified = functions.verify_until(self.store, chain, self.terms)
    if not ok then
        return nil, reason
    end
    local certificates = {}
    -- The last one is trusted, whoever has issued it.
    local count = verified:count() - 1
    for index = 1, self.leaf_only and min(count, 1) or count do
        certificates[index], err = sources_of(self, verified[index], verified[index + 1])
        if not certificates[index] then
            -- Not only the client's fault: the certificate was issued this way, or memory has run out.
            ngx.log(ngx.ERR, "revocation: ", err)
            return nil, err
        end
    end
    if count == 0 then
        certificates[1] = { subject = verified[1].subject or "?", is_alone = true }
    end
    return certificates
end


-- Returns what is known of a certificate, and until when; or nil and why nothing is.
local function status_and_end(self, sources)
    local failed = sources.is_alone and "it is trusted itself, so nobody can be asked"
        or "it names neither an OCSP responder nor a distribution point with an http:// URL"
    for index, source in ipairs(sources) do
        local status, ends = ask(self, source)
        if status then
            return status, ends
        end
        failed = index == 1 and ends or failed .. "; " .. ends
    end
    return nil, failed
end


local methods = {}


-- Returns why a client must be refused whose chain is good otherwise; nil if it need not be.
-- `presented` is the key of the chain, and `parse` makes the chain from it; `version` is the
-- number of the store, which may have been replaced. May yield.
function methods:check(presented, parse, version)
    local known = self.chains:get(presented)
    if known and known.version ~= version then
        -- By another store, the chain may be another one.
        known = nil
    end
    if known and known.ends and still_holds(known.monotonic, known.date, known.ends) then
        count_cache(CACHE, functions.HIT)
        return known.reason
    end
    count_cache(CACHE, functions.MISS)
    local monotonic, date = clocks()
    if not known or monotonic - known.made > CHAIN then
        local certificates, err = certificates_of(self, presented, parse)
        if not certificates then
            return err
        end
        known = { certificates = certificates, made = monotonic, version = version }
        self.chains:set(presented, known, #presented + CERTIFICATE * #certificates)
    end
    local ends = 1 / 0
    local missing
    for number, sources in ipairs(known.certificates) do
        local status, detail = status_and_end(self, sources)
        local reason = REASONS[status or ""]
        local place = " (certificate " .. number .. ": " .. sources.subject .. ")"
        if reason then
            reason = reason .. place
            known.reason, known.monotonic, known.date, known.ends = reason, monotonic, date, detail
            return reason
        elseif not status then
            missing = missing or NO_ANSWER .. place .. ": " .. detail
        else
            ends = min(ends, detail)
        end
    end
    if missing then
        known.ends = nil
        if self.is_strict then
            return missing
        end
        return nil
    end
    known.reason, known.monotonic, known.date, known.ends = nil, monotonic, date, ends
    return nil
end


local meta = { __index = methods }

-- What a worker keeps for itself, for policies without a lua_shared_dict.
local ENTRIES, OWN_BYTES = 16384, 32 * 1024 * 1024
local own = worker_dict.new(CACHE, ENTRIES, OWN_BYTES)


-- ---- options ------------------------------------------------------------------------------------

local MODES = { SKIP = true, IGNORE_CA_ERROR = true, STRICT = true }

local OPTIONS = {
    revocation_check_mode = true, revocation_dict = true, revocation_leaf_only = true, ocsp_responder = true,
    http_timeout = true, http_proxy = true,
}

M.OPTIONS = OPTIONS


-- Returns the options about revocation among those of a plugin; or nil and what is wrong.
function M.options(options)
    local given = {}
    for name in pairs(OPTIONS) do
        local value = options[name]
        if is_given(value) then
            given[name] = value
        end
    end
    local mode, dict, timeout = given.revocation_check_mode, given.revocation_dict, given.http_timeout
    if is_given(mode) and not MODES[mode] then
        return nil, about("revocation_check_mode must be \"SKIP\", \"IGNORE_CA_ERROR\" or \"STRICT\"", mode)
    elseif is_given(dict) and type(dict) ~= "string" then
        return nil, about("revocation_dict must be the name of a lua_shared_dict", dict)
    elseif is_given(given.revocation_leaf_only) and type(given.revocation_leaf_only) ~= "boolean" then
        return nil, about("revocation_leaf_only must be a boolean", given.revocation_leaf_only)
    elseif is_given(timeout) and not (type(timeout) == "number" and timeout >= 1 and timeout <= 3600000) then
        return nil, about("http_timeout must be a number of milliseconds, from 1 to 3600000", timeout)
    end
    for _, name in ipairs { "ocsp_responder", "http_proxy" } do
        local value = given[name]
        if is_given(value) and type(value) ~= "string" then
            return nil, about(name .. " must be a string", value)
        end
        if is_given(value) then
            local _, wrong = fetch.parse(value)
            if wrong then
                return nil, about(name .. " must be a URL that begins with http://", value) .. " (" .. wrong .. ")"
            end
        end
    end
    if mode == nil and next(given) then
        return nil, next(given) .. " has no effect without revocation_check_mode"
    end
    return given
end


-- Makes the object that checks clients, of options that `options` has returned; false if they need no
-- check, or nil and an error. `store` and `terms` are what chains are verified by.
function M.new(given, store, terms)
    local mode, name = given.revocation_check_mode, given.revocation_dict
    if mode == nil or mode == "SKIP" then
        return false
    end
    local dict, place = own, "what a worker keeps for itself"
    if name then
        dict, place = ngx.shared[name], "lua_shared_dict \"" .. name .. "\""
        if not dict then
            return nil, "there is no " .. place
        end
    end
    return setmetatable({
        is_strict = mode == "STRICT",
        dict = dict,
        dict_name = name or "",
        place = place,
        leaf_only = given.revocation_leaf_only or false,
        responder = given.ocsp_responder,
        timeout = given.http_timeout or TIMEOUT,
        proxy = given.http_proxy and fetch.parse(given.http_proxy),
        -- What fails on one way, or in a short time, need not fail otherwise.
        route = (given.http_proxy or "") .. " " .. (given.http_timeout or TIMEOUT) .. " ",
        store = store,
        terms = terms,
        chains = bounded.new(CACHE, CHAINS, BYTES),
    }, meta)
end


return M
