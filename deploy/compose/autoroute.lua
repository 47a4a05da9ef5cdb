-- Sends every CT series that is complete to the node, in one association. What the node sends back is no CT, and stays.
-- As a job of its own, the sending is seen under /jobs and can be started again there.
function OnStableSeries(series, tags, metadata)
   if tags['Modality'] == 'CT' then
      RestApiPost('/modalities/orgseg/store', DumpJson({Resources = {series}, Synchronous = false}, true))
   end
end
