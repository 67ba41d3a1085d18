// A batch's training state in its working folder: one file, whole or not at all, deleted with the folder once the batch is stored.
using IptNative.Model.Checkpoints;
using IptNative.Tuning.Prompts;
using IptNative.Tuning.Runs;
using IptNative.Tuning.Training;

namespace IptNative.Tuning.Ipt;

/// <summary>Keeps a training with its curves.</summary>
internal sealed class BatchCheckpoint : ITrainingStore
{
    private const string CurvesKey = "curves";

    private readonly string _path, _identity;
    private readonly int _rows;
    private readonly TrainingCurves _curves;

    /// <summary>Reads what a stopped process left; the curves go on from there too.</summary>
    /// <exception cref="InvalidDataException">The file is damaged or of another batch.</exception>
    public BatchCheckpoint(string folder, string identity, IReadOnlyList<RunRow> rows, TrainingCurves curves)
    {
        (_path, _identity, _rows, _curves) = (Path.Combine(folder, TrainingState.FileName), identity, rows.Count, curves);
        if (!File.Exists(_path))
            return;
        State = TrainingState.Read(_path, identity, rows);
        curves.Restore(State.Extra.GetValueOrDefault(CurvesKey, ""), _path);
    }

    public TrainingState? State { get; }

    public void Save(TrainingState state)
    {
        var all = new TrainingState
        {
            Step = state.Step,
            Seconds = state.Seconds,
            Rows = state.Rows,
            Extra = new Dictionary<string, string>(state.Extra, StringComparer.Ordinal) { [CurvesKey] = _curves.Save() },
        };
        foreach (SavedTensor tensor in state.Tensors.Values)
            all.Add(tensor.Name, tensor.Shape, tensor.Values);
        AtomicFile.Write(_path, stream => all.WriteTo(stream, _identity, 0, Enumerable.Repeat(0L, _rows)));
    }

    public void SaveBest(int run, Prompt prompt)
    {
        // The state holds every run's best parameters.
    }
}
