// `iptnative ipt`: the whole of Intrinsic Prompt Tuning over a set of tasks, from one file. Deliberately no numerics: plan, run and report are Tuning's.
using System.CommandLine;
using System.Globalization;
using IptNative.Cli.Terminal;
using IptNative.Kernels.Devices;
using IptNative.Tuning.Experiments;
using IptNative.Tuning.Reports;

namespace IptNative.Cli.Commands;

internal static class IptCommand
{
    /// <summary>Makes the command.</summary>
    /// <param name="runners">Makes what carries the jobs out.</param>
    public static Command Create(JobRunnerFactory runners)
    {
        var file = new Argument<string>("experiment") { Description = "EXPERIMENT.json, for example examples/ipt-smoke.json." };
        var planOnly = new Option<bool>("--plan") { Description = "Print the jobs with an estimate of time, and stop." };
        var output = new Option<string?>("--out") { Description = "Folder of jobs and report; without it the file's output, or runs/NAME." };
        var jobs = new Option<int?>("--jobs") { Description = "Runs that share a batch, at most; without it the file's side_by_side." };
        var set = new Option<string[]>("--set") { Description = "key=value over the file's options, for example --set ist.training.steps=100.", Arity = ArgumentArity.OneOrMore };
        var device = new DeviceOption();
        var command = new Command("ipt", "Find the subspace that prompts share, tune in it, and write the report: prompt tuning, MSF, IST, all in one.") { file, planOnly, output, jobs, set, device };
        command.WithExamples(
            "iptnative ipt examples/ipt-smoke.json",
            "iptnative ipt examples/ipt-mini.json --plan",
            "iptnative ipt examples/ipt-mini.json --set ist.search=cma_es --out runs/cma-es");
        command.SetRun((parsed, cancel) =>
        {
            List<string> overrides = [.. parsed.GetValue(set) ?? []];
            if (parsed.GetValue(jobs) is { } sideBySide) overrides.Add($"side_by_side={sideBySide.ToString(CultureInfo.InvariantCulture)}");
            // Where it was not given, the file's word counts.
            if (parsed.GetResult(device) is { Implicit: false }) overrides.Add($"device={device.Of(parsed)}");
            ExperimentConfig config = ExperimentConfig.Load(parsed.GetValue(file)!, overrides);
            if (parsed.GetValue(output) is { } folder) config = config with { Output = Path.GetFullPath(folder) };
            if (DeviceChoice.Parse(config.Device).Fallback() is { Length: > 0 } note) Console.Error.WriteLine($"iptnative: {note}");
            using TextWriter results = StandardOutput.Open();
            return Run(config, parsed.GetValue(planOnly), runners, results, cancel);
        });
        return command;
    }

    private static int Run(ExperimentConfig config, bool planOnly, JobRunnerFactory runners, TextWriter output, CancellationToken cancel)
    {
        ExperimentData data = ExperimentData.Open(config.Data);
        ExperimentPlan plan = ExperimentPlan.Build(config, data, ExperimentModel.Read(config.Model));
        using JobStore store = JobStore.Open(config.Output);
        using IJobRunner runner = runners(config, data);
        PlanEstimate estimate = PlanEstimate.Make(plan, store, null);
        // A few steps are timed only where no finished job says more.
        if (estimate.Seconds is null) estimate = PlanEstimate.Make(plan, store, runner.Measure(plan.Batches[0], cancel));
        PlanTable.Write(output, plan, estimate);
        bool over = config.BudgetMinutes > 0 && estimate.Seconds > 60 * config.BudgetMinutes;
        if (over)
        {
            string message = $"the plan takes about {PlanTable.Time(estimate.Seconds)}, the budget is {config.BudgetMinutes:0.#} minutes. Fewer seeds, d_i or steps make it shorter.";
            if (config.RefuseOverBudget && !planOnly) throw new InvalidDataException($"{config.Name}: {message} Or raise budget_minutes.");
            Console.Error.WriteLine($"iptnative: warning: {message}");
        }
        if (planOnly) return ExitCode.Done;

        output.Flush();
        IReadOnlyList<SkippedJob> skipped;
        using (var line = new ProgressLine("ipt"))
        {
            // Promille: the line counts in whole units, the plan in token positions.
            skipped = ExperimentRun.Execute(plan, store, runner, p => line.Report((long)(1000 * p.Share), 1000, $"{p.DoneJobs}/{p.Jobs} jobs, {p.Text}"), cancel);
        }
        ExperimentResults found = ExperimentResults.Collect(plan, store, data);
        string page = ExperimentReport.Write(config.Output, found, store, data);
        foreach (SkippedJob job in skipped) Console.Error.WriteLine($"iptnative: warning: {job.Job} did not run: {job.Because} failed.");
        PlanTable.WriteResult(output, found, page);
        return ExitCode.Done;
    }
}
