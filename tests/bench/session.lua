-- What the session filter does, as far as a short script can: for one worker, without bounds, expiry or shared sessions.

local sessions = {}

function envoy_on_request(handle)
  local headers = handle:headers()
  local caller = headers:get("authorization")
  local path = string.match(headers:get(":path"), "^[^?]*")
  if path ~= "/mcp" or caller == nil or headers:get("mcp-session-id") ~= nil then
    return
  end
  -- Waits for all of the body: a script can't see less.
  local body = handle:body()
  -- What was known before the wait can't be used after it.
  headers = handle:headers()
  local is_initialize = body ~= nil
    and string.find(body:getBytes(0, body:length()), '"method":"initialize"', 1, true) ~= nil
  if is_initialize then
    handle:streamInfo():dynamicMetadata():set("session", "caller", caller)
  elseif sessions[caller] ~= nil then
    headers:replace("mcp-session-id", sessions[caller].id)
    if headers:get("mcp-protocol-version") == nil then
      headers:replace("mcp-protocol-version", sessions[caller].version)
    end
  end
end

function envoy_on_response(handle)
  local metadata = handle:streamInfo():dynamicMetadata():get("session")
  local id = handle:headers():get("mcp-session-id")
  if metadata ~= nil and id ~= nil and handle:headers():get(":status") == "200" then
    sessions[metadata.caller] = { id = id, version = "2025-11-25" }
  end
end
