//! Commands of people: the same on SQLite and on PostgreSQL, by the steps of the loops on a fixed clock; and on the real
//! brokers (`commands/`).

mod support;

#[macro_use]
#[path = "commands/asking.rs"]
mod asking;
#[path = "commands/brokers.rs"]
mod brokers;
#[path = "commands/declared.rs"]
mod declared;
#[path = "commands/explain.rs"]
mod explain;
#[path = "commands/life.rs"]
mod life;
#[path = "commands/replay.rs"]
mod replay;
#[path = "commands/shared.rs"]
mod shared;
#[path = "commands/tasks.rs"]
mod tasks;

on_both!(
    tasks:
        a_queued_task_that_is_cancelled_is_gone_and_its_run_ends,
        a_running_task_that_is_cancelled_tells_its_worker_and_ends_with_its_lease,
        a_waiting_task_that_is_retried_is_offered_at_once_with_a_new_number,
        a_dead_task_is_made_anew_once_with_its_lineage,
        a_task_is_marked_with_a_reason_and_only_while_it_is_open,
        many_tasks_are_touched_only_where_somebody_says_yes,
        of_many_tasks_those_count_that_can_still_be_touched,
        who_marks_what_has_ended_is_told_what_can_be_done_with_it,
        words_that_no_row_can_have_are_refused_with_those_that_it_can,
        the_target_of_an_object_that_nobody_knows_is_refused_with_the_nearest_key,
        lists_answer_queries_in_pages,
        an_organisation_neither_sees_nor_touches_tasks_of_another,
        dead_letters_are_messages_and_tasks_and_go_one_by_one,
        the_same_request_is_done_once_also_when_it_comes_twice_at_once,
        a_request_with_an_empty_id_is_refused_and_starts_nothing,
        wrong_arguments_are_refused_with_what_would_be_right;
    declared:
        a_schedule_is_applied_with_ids_revision_and_its_next_five_instants,
        one_command_makes_a_job_of_a_plugin_and_its_schedule,
        organisations_plugins_sets_and_calendars_are_made_listed_and_deleted,
        an_organisation_declares_and_sees_only_what_is_its_own,
        an_event_is_explained_and_nothing_is_stored,
        what_is_paused_already_keeps_a_new_reason_with_who_and_when,
        two_at_once_with_one_id_make_one_schedule_and_hear_the_same;
    explain:
        an_event_that_was_handled_is_explained_with_what_was_made_of_it,
        an_event_that_is_not_kept_or_not_ones_own_is_not_explained,
        a_task_tells_why_it_is_there_and_what_keeps_it_from_running,
        a_task_tells_who_goes_before_it_and_an_organisation_nothing_of_others,
        a_schedule_tells_step_by_step_why_it_did_not_run_on_an_object,
        a_schedule_that_is_asleep_or_without_an_object_says_so,
        an_object_that_nobody_told_of_is_refused_with_the_nearest_keys,
        a_join_tells_which_files_are_there_and_which_are_missing,
        a_schedule_without_an_input_says_so_and_is_not_asked_as_if_it_had_one,
        an_event_among_the_dead_letters_is_told_to_lie_there;
    replay:
        events_are_replayed_under_new_rules_and_nothing_is_stored,
        objects_are_replayed_as_if_new_and_by_one_instant_of_the_clock,
        what_a_schedule_loses_and_gains_is_told_apart,
        what_differs_is_told_of_schedules_that_no_file_names,
        a_replay_names_no_task_that_it_has_imagined,
        what_is_not_kept_is_told_and_not_replayed,
        instants_and_selections_that_would_change_are_told,
        open_tasks_that_would_lose_their_reason_are_counted;
    life:
        what_happens_is_told_once_each_in_the_order_of_each_task,
        where_nobody_wants_to_be_told_nothing_is_written;
    shared:
        one_scan_runs_for_all_who_have_the_object_and_they_take_its_success,
        whatever_ends_it_but_success_queues_those_that_waited,
        each_organisations_own_gates_say_whether_it_gets_one,
        what_waits_goes_when_its_own_reason_goes,
        what_people_ask_for_waits_for_nobody,
        a_task_that_waits_has_a_clock_of_its_own,
        a_cause_of_its_own_takes_over_what_was_made_on_its_behalf,
        two_replicas_that_decide_at_once_let_one_of_them_run,
        whoever_sees_all_is_told_whose_outcome_a_task_waits_for,
        no_organisation_sees_that_another_has_the_object;
);
