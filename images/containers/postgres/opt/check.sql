-- Divides by zero unless each transaction is in the history, and all four tables add up to one sum.
SELECT 1 / (count(*) = :transactions AND sum(delta) = (SELECT sum(abalance) FROM pgbench_accounts)
  AND sum(delta) = (SELECT sum(tbalance) FROM pgbench_tellers)
  AND sum(delta) = (SELECT sum(bbalance) FROM pgbench_branches))::int FROM pgbench_history;
