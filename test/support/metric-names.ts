/** Metrics of a coordinator and its workers, as the dashboards may use them. */
export const METRICS: readonly string[] = [
  'run_status run_progress_ratio run_eta_seconds run_start_time_seconds',
  'trial_status trial_epoch trial_epochs trial_step trial_steps trial_loss trial_accuracy trial_learning_rate',
  'steps_total rows_total images_per_second ledger_rows',
  'step_seconds_bucket step_seconds_sum step_seconds_count',
  'slot_busy_ratio slots slots_demand',
  'workers worker_heartbeat_age_seconds worker_joins_total worker_leaves_total worker_rows_per_second workers_desired',
  'leases_total lease_retries_total speculative_wins_total late_partials_total',
  'bytes_total frames_total socket_buffered_bytes',
  'checkpoints_total checkpoint_age_seconds checkpoint_bytes',
  'checkpoint_seconds_bucket checkpoint_seconds_sum checkpoint_seconds_count',
  'worker_slots worker_resident_memory_bytes worker_info worker_rows_total worker_leases',
  'frames_rejected_total logins_refused_total',
  'worker_tensors worker_tensor_bytes event_loop_lag_seconds worker_event_loop_lag_seconds',
  'disk_free_bytes build_info',
]
  .flatMap((line) => line.split(' '))
  .map((name) => `atelier_${name}`);

/** prom-client's own, with our prefix, and Prometheus' own. */
export const PROCESS_METRICS: readonly string[] = [
  'ALERTS',
  'atelier_process_cpu_seconds_total',
  'atelier_process_resident_memory_bytes',
  'atelier_nodejs_heap_size_used_bytes',
];
