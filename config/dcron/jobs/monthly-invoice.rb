# Pretends to send the invoices of the month for which it was scheduled.
require "json"

task = JSON.parse($stdin.read)
puts "invoices of #{task["scheduled_for"][0, 7]} for #{task["organization"]}"
File.write(ENV["MUSTER_TASK_OUTPUTS"], JSON.generate("month" => task["scheduled_for"][0, 7]))
