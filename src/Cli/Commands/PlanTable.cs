// A plan and an experiment's main numbers as text for a terminal. Deliberately short: the rest is in the report.
using IptNative.Tuning.Experiments;

namespace IptNative.Cli.Commands;

internal static class PlanTable
{
    public static void Write(TextWriter output, ExperimentPlan plan, PlanEstimate estimate)
    {
        ExperimentConfig config = plan.Config;
        output.WriteLine($"{config.Name}: {plan.Split.Train.Count} training tasks, {plan.Split.Test.Count} held out ({plan.Split.Name} split); prompt length {config.PromptLength}, d_I {string.Join(", ", config.DI)}, seeds {string.Join(", ", config.Seeds)}");
        foreach (SplitPart part in plan.Split.Parts)
            output.WriteLine($"  coverage, {part.Name}: {part.Present.Count} of {part.Wanted} tasks");
        foreach (string note in plan.Notes)
            output.WriteLine($"  left out: {note}");
        output.WriteLine($"{"jobs",-16}{"all",7}{"done",7}{"batches left",14}{"time left",12}");
        foreach (PlanLine line in estimate.Lines)
            output.WriteLine($"{line.Kind.Name(),-16}{line.Jobs,7}{line.Done,7}{line.Batches,14}{Time(line.Seconds),12}");
        output.WriteLine($"{"total",-16}{estimate.Lines.Sum(l => l.Jobs),7}{estimate.Lines.Sum(l => l.Done),7}{estimate.Lines.Sum(l => l.Batches),14}{Time(estimate.Seconds),12}  (from {estimate.Source})");
    }

    public static void WriteResult(TextWriter output, ExperimentResults results, string page)
    {
        output.WriteLine();
        output.WriteLine($"{"question",-42}{"d_I",5}{"tasks",7}{"E_abs",8}{"E_rel",8}{"PT = 0",8}");
        foreach (Summary row in results.Summaries.Where(s => s.Setting.Length == 0 && s.Group == ExperimentResults.AllTasks))
        {
            string name = row.Method == SubspaceMethod.Msf ? row.Study.Name() : $"{row.Study.Name()}, {row.Method.Name()}";
            output.WriteLine($"{name,-42}{(row.DI > 0 ? row.DI : ""),5}{row.Tasks,7}{Percent(row.EAbs),8}{Percent(row.ERel),8}{row.ZeroDenominators,8}");
        }
        (int compared, int better) = results.Conclusive;
        output.WriteLine($"{(results.Conclusive.IsConclusive ? "conclusive" : "INCONCLUSIVE")}: prompt tuning beats majority label and untuned model on {better} of {compared} tasks");
        output.WriteLine($"report: {page}");
    }

    /// <summary>A duration as h:mm:ss; a question mark where nothing was measured.</summary>
    public static string Time(double? seconds) => seconds is { } s ? TimeSpan.FromSeconds(Math.Round(s)).ToString(s >= 86_400 ? @"d\.hh\:mm\:ss" : @"h\:mm\:ss") : "?";

    private static string Percent(double fraction) => double.IsFinite(fraction) ? $"{100 * fraction:0.0}" : "-";
}
